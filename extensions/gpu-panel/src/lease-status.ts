/**
 * Lease status: the status-bar item with the countdown; a button that opens the panel.
 *
 * It is hidden for a lease without an end.
 */
import { Widget } from '@lumino/widgets';

import { element, setText } from './dom';
import { LeaseModel } from './lease';
import { formatCountdown } from './lease-format';

const SOON_SECONDS = 1800;

export class LeaseStatus extends Widget {
  private _button = element('button', 'gpu-panel-Status');

  constructor(
    private readonly _lease: LeaseModel,
    onClick: () => void
  ) {
    super();
    this.addClass('jp-mod-highlighted');
    this._button.type = 'button';
    this._button.title = 'Click to open the GPU panel';
    this._button.addEventListener('click', onClick);
    this.node.append(this._button);
    _lease.changed.connect(() => this._update());
    this._update();
  }

  private _update(): void {
    const { reading, seconds_left } = this._lease;
    const countdown = formatCountdown(this._lease, new Date());
    const text = `${countdown?.status ?? ''}${reading?.trouble ? ' · GPU failed' : ''}${
      reading?.idle_seconds_left == null ? '' : ' · unused'
    }`;
    this.setHidden(countdown === null);
    setText(this._button, text);
    this._button.setAttribute('aria-label', `${text}. Open the GPU panel`);
    this._button.classList.toggle('gpu-panel-mod-soon', (seconds_left ?? Infinity) <= SOON_SECONDS);
  }
}
