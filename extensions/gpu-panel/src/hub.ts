/** Hub pages: builds the addresses of the hub's pages. */
import { PageConfig, URLExt } from '@jupyterlab/coreutils';

/** Return the address of a page of the hub, such as `home`. */
export function hubPage(name: string): string {
  return PageConfig.getOption('hubHost') + URLExt.join(PageConfig.getOption('hubPrefix'), name);
}
