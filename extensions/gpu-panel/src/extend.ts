/** Asks the server to extend its lease; a refusal is an `Error` with the hub's own sentence. */
import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

import { LeaseReading, isLease } from './message';

/** Return the lease as it is then. */
export async function extendLease(
  hours: number,
  settings: ServerConnection.ISettings
): Promise<LeaseReading> {
  const url = URLExt.join(settings.baseUrl, 'gpu-panel', 'lease');
  const init = { method: 'POST', body: JSON.stringify({ hours }) };
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
