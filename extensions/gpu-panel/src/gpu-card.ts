/**
 * GPU card: one GPU's name, memory, values and chart.
 *
 * It is built once and then changed in place, so that focus and hover survive each update.
 */
import { Chart } from './chart';
import { element, setText } from './dom';
import {
  describeProblem,
  formatAge,
  formatCelsius,
  formatMemory,
  formatName,
  formatPercent,
  formatPower,
  formatTitle
} from './format';
import { GpuReading } from './message';
import { Series, percentOf } from './model';

const FACTS = ['temperature', 'utilization', 'power'] as const;
const LABELS = {
  memory: 'Memory',
  temperature: 'Temperature',
  utilization: 'Utilisation',
  power: 'Power'
};
const LINES = ['memory', 'utilization', 'temperature'] as const;

export class GpuCard {
  readonly node = element('section', 'gpu-panel-Card');
  private _title = element('h3', 'gpu-panel-Card-title');
  private _badge = element('span', 'gpu-panel-Badge', 'simulated');
  private _name = element('div', 'gpu-panel-Card-name');
  private _problem = element('p', 'gpu-panel-Problem');
  private _meter = element('div', 'gpu-panel-Meter');
  private _fill = element('div', 'gpu-panel-Meter-fill');
  private _values = {
    memory: valueNode('span', 'memory'),
    temperature: valueNode('dd', 'temperature'),
    utilization: valueNode('dd', 'utilization'),
    power: valueNode('dd', 'power')
  };
  private _legend = {
    memory: element('span', ''),
    utilization: element('span', ''),
    temperature: element('span', '')
  };
  private _age = element('span', 'gpu-panel-Legend-age');
  private _figure = element('div', 'gpu-panel-Figure');
  private _chart = new Chart(index => this._onHover(index));
  private _hovered: number | null = null;
  private _series: Series | null = null;

  constructor() {
    this._meter.setAttribute('role', 'meter');
    this._meter.setAttribute('aria-label', 'Memory used');
    this._meter.setAttribute('aria-valuemin', '0');
    this._meter.setAttribute('aria-valuemax', '100');
    this._meter.append(this._fill);
    this._problem.setAttribute('role', 'alert');
    this._figure.setAttribute('role', 'img');
    this._figure.append(this._chart.node, this._buildLegend());
    this.node.append(
      element('header', 'gpu-panel-Card-header', this._title, this._badge),
      this._name,
      this._problem,
      element('div', 'gpu-panel-Row', element('span', '', LABELS.memory), this._values.memory),
      this._meter,
      element('dl', 'gpu-panel-Facts', ...FACTS.map(fact => this._buildFact(fact))),
      this._figure
    );
  }

  update(gpu: GpuReading, series: Series): void {
    const problem = describeProblem(gpu);
    this.node.dataset.uuid = gpu.uuid ?? '';
    this.node.dataset.health = gpu.health;
    this.node.setAttribute('aria-label', `${formatTitle(gpu)}, ${gpu.name ?? 'unknown model'}`);
    setText(this._title, formatTitle(gpu));
    this._badge.hidden = !gpu.simulated;
    setText(this._name, formatName(gpu));
    this._name.title = gpu.uuid ?? '';
    this._problem.hidden = problem === null;
    setText(this._problem, problem ?? '');
    setText(this._values.temperature, formatCelsius(gpu.temperature_celsius));
    setText(this._values.utilization, formatPercent(gpu.utilization_percent));
    setText(this._values.power, formatPower(gpu.power_watts, gpu.power_limit_watts));
    this._updateMemory(gpu);
    this._series = series;
    this._chart.draw(series);
    this._describeChart();
    this._onHover(this._hovered);
  }

  /** Draw the chart again in the current theme. */
  redraw(): void {
    this._chart.redraw();
  }

  dispose(): void {
    this._chart.dispose();
    this.node.remove();
  }

  private _updateMemory(gpu: GpuReading): void {
    const text = formatMemory(gpu.memory_used_bytes, gpu.memory_total_bytes);
    const percent = percentOf(gpu.memory_used_bytes, gpu.memory_total_bytes);
    setText(this._values.memory, text);
    this._fill.style.width = `${percent ?? 0}%`;
    this._meter.setAttribute('aria-valuetext', percent === null ? 'unknown' : text);
    if (percent === null) {
      this._meter.removeAttribute('aria-valuenow');
    } else {
      this._meter.setAttribute('aria-valuenow', String(Math.round(percent)));
    }
  }

  private _describeChart(): void {
    const count = this._series?.age_seconds.length ?? 0;
    const first = this._series?.age_seconds[0] ?? 0;
    this._figure.setAttribute(
      'aria-label',
      count < 2
        ? 'Chart of memory, utilisation and temperature: no history yet'
        : `Chart of memory, utilisation and temperature from ${formatAge(first)} until now`
    );
  }

  /** Show the values under the mouse in the legend, or the names of the lines. */
  private _onHover(index: number | null): void {
    this._hovered = index;
    const series = index === null ? null : this._series;
    const at = (values: (number | null)[]): number | null => values[index ?? 0] ?? null;
    setText(this._legend.memory, series ? formatPercent(at(series.memory_percent)) : 'Memory %');
    setText(
      this._legend.utilization,
      series ? formatPercent(at(series.utilization_percent)) : 'Utilisation %'
    );
    setText(
      this._legend.temperature,
      series ? formatCelsius(at(series.temperature_celsius)) : 'Temperature °C'
    );
    setText(this._age, series ? formatAge(series.age_seconds[index ?? 0] ?? 0) : '');
  }

  private _buildFact(fact: (typeof FACTS)[number]): HTMLElement {
    return element('div', '', element('dt', '', LABELS[fact]), this._values[fact]);
  }

  private _buildLegend(): HTMLElement {
    const items = LINES.map(line =>
      element(
        'span',
        `gpu-panel-Legend-item gpu-panel-mod-${line}`,
        element('span', 'gpu-panel-Legend-line'),
        this._legend[line]
      )
    );
    const legend = element('div', 'gpu-panel-Legend', ...items, this._age);
    legend.setAttribute('aria-hidden', 'true');
    return legend;
  }
}

function valueNode(tag: 'span' | 'dd', value: string): HTMLElement {
  const node = element(tag, 'gpu-panel-Value');
  node.dataset.value = value;
  return node;
}
