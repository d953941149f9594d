/** Asks the server about its lease; a refusal is an `Error` with the hub's own sentence. */
import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

import { LeaseReading, isLease } from './message';

/** Extend the lease and return it as it is then. */
export function extendLease(
  hours: number,
  settings: ServerConnection.ISettings
): Promise<LeaseReading> {
  return ask('lease', { hours }, settings);
}

/** Say that somebody is still here, and return the lease as it is then. */
export function sayHere(settings: ServerConnection.ISettings): Promise<LeaseReading> {
  return ask('here', {}, settings);
}

async function ask(
  about: string,
  body: object,
  settings: ServerConnection.ISettings
): Promise<LeaseReading> {
  const url = URLExt.join(settings.baseUrl, 'gpu-panel', about);
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
