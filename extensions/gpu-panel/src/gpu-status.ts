/**
 * GPU status: the status-bar item with memory and temperature of this server's GPUs in one line.
 *
 * It is a button that opens the panel, and has a badge when a GPU is simulated.
 */
import { Widget } from '@lumino/widgets';

import { element, setText } from './dom';
import { describeGpus, formatStatus } from './format';
import { GpuModel } from './model';

export class GpuStatus extends Widget {
  private _text = element('span', '');
  private _badge = element('span', 'gpu-panel-Badge', 'simulated');
  private _button = element('button', 'gpu-panel-Status', this._text, this._badge);

  constructor(
    private readonly _model: GpuModel,
    onClick: () => void
  ) {
    super();
    this.addClass('jp-mod-highlighted');
    this._button.type = 'button';
    this._button.addEventListener('click', onClick);
    this.node.append(this._button);
    _model.changed.connect(() => this._update());
    this._update();
  }

  private _update(): void {
    const { connection, latest } = this._model;
    const isSimulated = (latest?.gpus ?? []).some(gpu => gpu.simulated);
    const text =
      connection === 'lost' ? `${formatStatus(latest)} (not connected)` : formatStatus(latest);
    setText(this._text, text);
    this._badge.hidden = !isSimulated;
    this._button.title = [describeGpus(latest), 'Click to open the GPU panel']
      .filter(Boolean)
      .join('\n');
    this._button.setAttribute(
      'aria-label',
      `${text}${isSimulated ? ', simulated' : ''}. Open the GPU panel`
    );
  }
}
