/**
 * Chart: one GPU's last minutes as lines, memory and utilisation in percent, temperature in °C.
 *
 * Colours are read from the theme at each drawing; lines differ in pattern too.
 */
import uPlot from 'uplot';

import { SPAN_SECONDS, Series } from './model';

const HEIGHT_PX = 100;
const MINUTES = SPAN_SECONDS / 60;

/** `dash` is the canvas pattern of the line; style/base.css draws the same in the legend. */
const LINES = [
  { color: '--gpu-panel-memory', dash: [], fill: true },
  { color: '--gpu-panel-utilization', dash: [2, 2], fill: false },
  { color: '--gpu-panel-temperature', dash: [6, 3], fill: false }
];

export class Chart {
  readonly node = document.createElement('div');
  private _plot: uPlot;
  private _observer: ResizeObserver;

  /** `onHover` receives the index of the point under the mouse, or `null`. */
  constructor(onHover: (index: number | null) => void) {
    this.node.className = 'gpu-panel-Chart';
    this._plot = new uPlot(this._buildOptions(onHover), [[], [], [], []], this.node);
    this._observer = new ResizeObserver(() => this._resize());
    this._observer.observe(this.node);
  }

  draw(series: Series): void {
    this._plot.setData([
      series.age_seconds,
      series.memory_percent,
      series.utilization_percent,
      series.temperature_celsius
    ]);
  }

  /** Draw again in the colours of the current theme. */
  redraw(): void {
    this._plot.redraw(false, true);
  }

  dispose(): void {
    this._observer.disconnect();
    this._plot.destroy();
  }

  private _resize(): void {
    const width = this.node.clientWidth;
    if (width > 0) {
      this._plot.setSize({ width, height: HEIGHT_PX });
    }
  }

  private _buildOptions(onHover: (index: number | null) => void): uPlot.Options {
    const axis = {
      stroke: () => this._color('--jp-ui-font-color2'),
      grid: { stroke: () => this._color('--jp-border-color2'), width: 1 },
      ticks: { show: false },
      font: '10px sans-serif',
      gap: 4
    };
    return {
      width: 180,
      height: HEIGHT_PX,
      padding: [6, 10, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 5 } },
      scales: {
        x: { time: false, range: [-SPAN_SECONDS, 0] },
        y: { range: [0, 100] }
      },
      axes: [
        {
          ...axis,
          size: 20,
          splits: () => Array.from({ length: MINUTES + 1 }, (_, i) => 60 * (i - MINUTES)),
          values: (_, splits) =>
            splits.map((age, i) => (age === 0 ? 'now' : `−${-age / 60}${i === 0 ? ' min' : ''}`))
        },
        { ...axis, size: 26, splits: () => [0, 50, 100] }
      ],
      series: [
        {},
        ...LINES.map(({ color, dash, fill }) => ({
          stroke: () => this._color(color),
          width: 1.5,
          dash,
          points: { show: false },
          ...(fill && { fill: () => this._color(`${color}-fill`) })
        }))
      ],
      hooks: { setCursor: [plot => onHover(plot.cursor.idx ?? null)] }
    };
  }

  private _color(variable: string): string {
    return getComputedStyle(this.node).getPropertyValue(variable).trim();
  }
}
