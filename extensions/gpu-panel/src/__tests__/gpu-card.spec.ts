import { beforeEach, describe, expect, it, jest } from '@jest/globals';

import { GpuCard } from '../gpu-card';
import { GpuReading } from '../message';
import { makeGpu } from './sample';

// no canvas here; the browser tests cover the chart
jest.mock('../chart', () => ({
  Chart: class {
    node = document.createElement('div');
    draw = jest.fn();
    redraw = jest.fn();
    dispose = jest.fn();
  }
}));

const EMPTY = {
  age_seconds: [],
  memory_percent: [],
  temperature_celsius: [],
  utilization_percent: []
};

describe('GpuCard', () => {
  let card: GpuCard;
  const find = (selector: string): HTMLElement => {
    const node = card.node.querySelector<HTMLElement>(selector);
    if (node === null) {
      throw new Error(`nothing is ${selector}`);
    }
    return node;
  };
  const show = (changes: Partial<GpuReading>): void => card.update(makeGpu(changes), EMPTY);

  beforeEach(() => {
    card = new GpuCard();
  });

  it('shows the values of the GPU', () => {
    show({});
    expect(find('h3').textContent).toBe('GPU 0');
    expect(find('[data-value="memory"]').textContent).toBe('12.0 / 80 GiB');
    expect(find('[data-value="temperature"]').textContent).toBe('54 °C');
    expect(find('[data-value="utilization"]').textContent).toBe('87 %');
    expect(find('[data-value="power"]').textContent).toBe('252 / 400 W');
    expect(find('[role="alert"]').hidden).toBe(true);
  });

  it('has a badge for a simulated GPU only', () => {
    show({});
    expect(find('.gpu-panel-Badge').hidden).toBe(false);
    show({ simulated: false });
    expect(find('.gpu-panel-Badge').hidden).toBe(true);
  });

  it('describes the memory bar to screen readers', () => {
    show({});
    expect(find('[role="meter"]').getAttribute('aria-valuenow')).toBe('15');
    expect(find('[role="meter"]').getAttribute('aria-valuetext')).toBe('12.0 / 80 GiB');
    show({ memory_used_bytes: null });
    expect(find('[role="meter"]').getAttribute('aria-valuenow')).toBeNull();
    expect(find('[role="meter"]').getAttribute('aria-valuetext')).toBe('unknown');
  });

  it('shows a lost GPU, and its recovery', () => {
    show({ health: 'lost', temperature_celsius: null, power_watts: null });
    expect(find('[role="alert"]').textContent).toContain('GPU 0 is lost');
    expect(find('[data-value="temperature"]').textContent).toBe('–');
    expect(find('[data-value="power"]').textContent).toBe('–');
    show({});
    expect(find('[role="alert"]').hidden).toBe(true);
  });

  it('shows a name as text, not as HTML', () => {
    show({ name: '<b>GPU</b>' });
    expect(card.node.querySelector('b')).toBeNull();
    expect(find('.gpu-panel-Card-name').textContent).toBe('<b>GPU</b>');
  });
});
