/**
 * Side panel: the lease and one card per GPU, or a sentence about their absence.
 *
 * It draws only while it is visible.
 */
import { Widget } from '@lumino/widgets';

import { GpuCard } from './gpu-card';
import { element, setText } from './dom';
import { gpuIcon } from './icon';
import { LeaseModel } from './lease';
import { LeaseCard } from './lease-card';
import { PanelMessage } from './message';
import { ServerCard } from './server-card';
import { Connection, GpuModel, keyOf } from './model';

export const PANEL_ID = 'gpu-panel';

const NO_GPU =
  'This server has no GPU. Stop it and start one with GPUs from the hub control panel.';
const WAITING = 'Waiting for the first reading…';
const NOT_CONNECTED = 'Not connected to the server. Trying again…';

export class GpuPanel extends Widget {
  private _cards = new Map<string, GpuCard>();
  private _leaseCard: LeaseCard;
  private _list = element('div', 'gpu-panel-List');
  private _notice = element('p', 'gpu-panel-Notice');
  private _serverNotices = element('div', 'gpu-panel-Notices');
  private _server = new ServerCard();

  constructor(
    private readonly _model: GpuModel,
    private readonly _lease: LeaseModel,
    onExtend: () => void,
    onKeepAlive: () => void
  ) {
    super();
    this._leaseCard = new LeaseCard(onExtend, onKeepAlive);
    this.id = PANEL_ID;
    this.addClass('gpu-panel-Panel');
    this.title.icon = gpuIcon;
    this.title.caption = 'GPUs';
    this.node.tabIndex = 0;
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', 'GPUs of this server');
    this._notice.setAttribute('role', 'status');
    this.node.append(
      element('h2', 'gpu-panel-Title', 'GPUs'),
      this._notice,
      this._serverNotices,
      this._leaseCard.node,
      this._list,
      this._server.node
    );
    _model.changed.connect(() => this._update());
    _lease.changed.connect(() => this._updateLease());
  }

  override dispose(): void {
    this._cards.forEach(card => card.dispose());
    super.dispose();
  }

  /** Draw the charts again in the current theme. */
  redraw(): void {
    this._cards.forEach(card => card.redraw());
  }

  protected override onAfterShow(): void {
    this._update();
    this._updateLease();
  }

  protected override onActivateRequest(): void {
    this.node.focus();
  }

  private _update(): void {
    if (!this.isVisible) {
      return;
    }
    const { connection, latest } = this._model;
    const notice = noticeFor(connection, latest);
    this._notice.hidden = notice === '';
    this._notice.classList.toggle('gpu-panel-Problem', latest !== null && latest.error !== null);
    setText(this._notice, notice);
    this.toggleClass('gpu-panel-mod-old', connection !== 'live');
    this._updateCards(latest);
    this._updateNotices(latest?.notices ?? []);
    this._server.node.hidden = latest === null;
    if (latest !== null) {
      this._server.update(latest.server, latest.lease);
    }
  }

  private _updateLease(): void {
    if (this.isVisible) {
      this._leaseCard.update(this._lease);
    }
  }

  /** Show every notice in full: JupyterLab's notifications cut long ones. */
  private _updateNotices(notices: string[]): void {
    const shown = [...this._serverNotices.children].map(node => node.textContent);
    if (shown.join('\n') !== notices.join('\n')) {
      const nodes = notices.map(notice => element('p', 'gpu-panel-Notice', notice));
      this._serverNotices.replaceChildren(...nodes);
    }
  }

  private _updateCards(message: PanelMessage | null): void {
    const gpus = message?.gpus ?? [];
    const keys = new Set(gpus.map(keyOf));
    for (const [key, card] of this._cards) {
      if (!keys.has(key)) {
        card.dispose();
        this._cards.delete(key);
      }
    }
    for (const gpu of gpus) {
      let card = this._cards.get(keyOf(gpu));
      if (card === undefined) {
        card = new GpuCard();
        this._cards.set(keyOf(gpu), card);
        this._list.append(card.node);
      }
      card.update(gpu, this._model.series(gpu));
    }
  }
}

function noticeFor(connection: Connection, message: PanelMessage | null): string {
  if (connection === 'lost') {
    return NOT_CONNECTED;
  }
  if (message === null) {
    return WAITING;
  }
  return message.error ?? (message.gpus.length === 0 ? NO_GPU : '');
}
