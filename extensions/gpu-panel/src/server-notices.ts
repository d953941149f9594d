/** Server notices: shows each sentence of the server about itself once a page, until the user dismisses it. */
import { Notification } from '@jupyterlab/apputils';

import { GpuModel } from './model';

/** Show the notices of `model` as they come. */
export function showNotices(model: GpuModel): void {
  const shown = new Set<string>();
  model.changed.connect(() => {
    for (const notice of model.latest?.notices ?? []) {
      if (!shown.has(notice)) {
        shown.add(notice);
        Notification.warning(notice, { autoClose: false });
      }
    }
  });
}
