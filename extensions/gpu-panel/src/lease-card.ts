/**
 * The panel's part about the lease: what is left, until when, what went wrong, and a button to extend it.
 *
 * Hidden where there is nothing to say. The countdown is silent to screen readers; the warnings are not.
 */
import { element, setText } from './dom';
import { LeaseModel } from './lease';
import { sayCountdown } from './words';

export class LeaseCard {
  private _trouble = element('p', 'gpu-panel-Problem');
  private _left = element('span', 'gpu-panel-Value');
  private _until = element('div', 'gpu-panel-Lease-until');
  private _button = element('button', 'jp-mod-styled gpu-panel-Extend', 'Extend…');
  private _countdown = element(
    'div',
    'gpu-panel-Card',
    element('div', 'gpu-panel-Row', element('span', '', 'Lease'), this._left),
    element('div', 'gpu-panel-Row', this._until, this._button)
  );
  readonly node = element('section', 'gpu-panel-Lease', this._trouble, this._countdown);

  constructor(onExtend: () => void) {
    this.node.setAttribute('aria-label', 'GPU lease');
    this._trouble.setAttribute('role', 'status');
    this._left.setAttribute('role', 'timer');
    this._button.type = 'button';
    this._button.setAttribute('aria-label', 'Extend the GPU lease');
    this._button.addEventListener('click', onExtend);
  }

  update(lease: LeaseModel): void {
    const countdown = sayCountdown(lease, new Date());
    const trouble = lease.reading?.trouble ?? null;
    this.node.hidden = countdown === null && trouble === null;
    this._trouble.hidden = trouble === null;
    setText(this._trouble, trouble ?? '');
    this._countdown.hidden = countdown === null;
    setText(this._left, countdown?.left ?? '');
    setText(this._until, countdown?.until ?? '');
    const is_over = (lease.seconds_left ?? 0) <= 0;
    this._button.hidden = is_over || lease.reading?.state !== 'running';
  }
}
