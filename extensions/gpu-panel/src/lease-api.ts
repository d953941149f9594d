/** Lease API: requests to the server extension; a refusal is an `Error` with the hub's own sentence. */
import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

import { LeaseReading, isLease } from './message';

/** Extend the lease and return it. */
export function extendLease(
  hours: number,
  settings: ServerConnection.ISettings
): Promise<LeaseReading> {
  return request('lease', { hours }, settings);
}

/** Reset the idle countdown and return the lease. */
export function keepAlive(settings: ServerConnection.ISettings): Promise<LeaseReading> {
  return request('keep-alive', {}, settings);
}

async function request(
  route: string,
  body: object,
  settings: ServerConnection.ISettings
): Promise<LeaseReading> {
  const url = URLExt.join(settings.baseUrl, 'gpu-panel', route);
  const init = { method: 'POST', body: JSON.stringify(body) };
  const response = await ServerConnection.makeRequest(url, init, settings);
  const answer: unknown = await response.json().catch(() => null);
  if (response.ok && isLease(answer)) {
    return answer;
  }
  const message = (answer as { message?: unknown } | null)?.message;
  throw new Error(
    typeof message === 'string' ? message : `The server answered ${response.status}.`
  );
}
