/**
 * Lease card: countdown, end and trouble of the lease, with buttons to extend it and to keep idle GPUs.
 *
 * It is hidden without content. Screen readers announce the warnings but not the countdown.
 */
import { element, setText } from './dom';
import { LeaseModel } from './lease';
import { STILL_HERE, formatCountdown, formatIdle } from './lease-format';

export class LeaseCard {
  private _trouble = element('p', 'gpu-panel-Problem');
  private _idle = element('div', 'gpu-panel-Lease-idle');
  private _keepAlive = element('button', 'jp-mod-styled gpu-panel-Extend', STILL_HERE);
  private _idleCard = element(
    'div',
    'gpu-panel-Card',
    this._idle,
    element('div', 'gpu-panel-Row', this._keepAlive)
  );
  private _left = element('span', 'gpu-panel-Value');
  private _until = element('div', 'gpu-panel-Lease-until');
  private _button = element('button', 'jp-mod-styled gpu-panel-Extend', 'Extend…');
  private _countdown = element(
    'div',
    'gpu-panel-Card',
    element('div', 'gpu-panel-Row', element('span', '', 'Lease'), this._left),
    element('div', 'gpu-panel-Row', this._until, this._button)
  );
  readonly node = element(
    'section',
    'gpu-panel-Lease',
    this._trouble,
    this._idleCard,
    this._countdown
  );

  constructor(onExtend: () => void, onKeepAlive: () => void) {
    this.node.setAttribute('aria-label', 'GPU lease');
    this._trouble.setAttribute('role', 'status');
    this._left.setAttribute('role', 'timer');
    this._button.type = 'button';
    this._button.setAttribute('aria-label', 'Extend the GPU lease');
    this._button.addEventListener('click', onExtend);
    this._keepAlive.type = 'button';
    this._keepAlive.addEventListener('click', onKeepAlive);
  }

  update(lease: LeaseModel): void {
    const countdown = formatCountdown(lease, new Date());
    const trouble = lease.reading?.trouble ?? null;
    this.node.hidden = countdown === null && trouble === null && lease.idle_seconds_left === null;
    this._trouble.hidden = trouble === null;
    setText(this._trouble, trouble ?? '');
    const idle_seconds = lease.idle_seconds_left;
    this._idleCard.hidden = idle_seconds === null;
    setText(this._idle, idle_seconds === null ? '' : formatIdle(idle_seconds));
    this._countdown.hidden = countdown === null;
    setText(this._left, countdown?.left ?? '');
    setText(this._until, countdown?.until ?? '');
    const is_over = (lease.seconds_left ?? 0) <= 0;
    this._button.hidden = is_over || lease.reading?.state !== 'running';
  }
}
