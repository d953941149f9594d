import { describe, expect, it } from '@jest/globals';

import durations from '../../../../tests/contract/panel-durations.json';
import {
  describeGpus,
  describeProblem,
  formatAge,
  formatCelsius,
  formatDuration,
  formatMemory,
  formatMoment,
  formatName,
  formatPercent,
  formatPower,
  formatStatus,
  formatTitle
} from '../format';
import { makeGpu, makeMessage } from './sample';

const GIB = 2 ** 30;
const lost = makeGpu({
  uuid: 'GPU-2',
  index: 1,
  health: 'lost',
  memory_used_bytes: null,
  memory_total_bytes: null,
  temperature_celsius: null
});

describe('values', () => {
  it.each([
    [formatCelsius(54), '54 °C'],
    [formatCelsius(0), '0 °C'],
    [formatCelsius(null), '–'],
    [formatPercent(87), '87 %'],
    [formatPercent(14.6), '15 %'],
    [formatPercent(null), '–'],
    [formatMemory(12 * GIB, 80 * GIB), '12.0 / 80 GiB'],
    [formatMemory(0, 79.6 * GIB), '0.0 / 79.6 GiB'],
    [formatMemory(null, 80 * GIB), '– / 80 GiB'],
    [formatMemory(null, null), '–'],
    [formatPower(251.5, 400), '252 / 400 W'],
    [formatPower(251.5, null), '252 W'],
    [formatPower(null, 400), '–'],
    [formatAge(0), 'now'],
    [formatAge(-59.6), '1 min 0 s ago'],
    [formatAge(-7), '7 s ago'],
    [formatAge(-80), '1 min 20 s ago'],
    [formatName(makeGpu()), 'NVIDIA A100-SXM4-80GB'],
    [formatName(makeGpu({ name: null })), 'Unknown model']
  ])('%s', (text, expected) => {
    expect(text).toBe(expected);
  });
});

describe('durations and moments', () => {
  it.each(durations)('$seconds s are "$words", as the hub says', ({ seconds, words }) => {
    expect(formatDuration(seconds)).toBe(words);
  });

  it('has a weekday only for another day', () => {
    const evening = new Date(2026, 10, 23, 18, 5);
    expect(formatMoment(new Date(2026, 10, 23, 22, 4), evening)).toBe('22:04');
    const tomorrow = formatMoment(new Date(2026, 10, 24, 0, 4), evening);
    expect(tomorrow).toContain('00:04');
    expect(tomorrow).not.toBe('00:04');
  });
});

describe('formatTitle', () => {
  it.each([
    ['GPU-51a0c0de', 'GPU 1'],
    ['MIG-51a0c0de', 'MIG instance 1'],
    [null, 'GPU 1']
  ])('of %s is %s', (uuid, title) => {
    expect(formatTitle(makeGpu({ uuid, index: 1 }))).toBe(title);
  });
});

describe('formatStatus', () => {
  const warm = makeGpu({ uuid: 'GPU-2', index: 1, temperature_celsius: 61 });

  it.each([
    ['before the first message', null, 'GPU –'],
    ['without GPUs', makeMessage({ gpus: [] }), 'No GPU'],
    ['when the driver fails', makeMessage({ gpus: [], error: 'No.' }), 'GPU error'],
    ['with one GPU', makeMessage({ gpus: [makeGpu()] }), 'GPU 12.0/80 GiB · 54 °C'],
    [
      'with two',
      makeMessage({ gpus: [makeGpu(), warm] }),
      'GPU 12.0/80 GiB · 54 °C | 12.0/80 GiB · 61 °C'
    ],
    ['with a lost one', makeMessage({ gpus: [makeGpu(), lost] }), 'GPU 12.0/80 GiB · 54 °C | lost'],
    [
      'with many',
      makeMessage({ gpus: [makeGpu(), warm, makeGpu()] }),
      '3 GPUs 36.0/240 GiB · ≤ 61 °C'
    ],
    [
      'with many and one lost',
      makeMessage({ gpus: [makeGpu(), warm, lost] }),
      '3 GPUs 24.0/160 GiB · ≤ 61 °C · 1 failing'
    ]
  ])('%s', (_, message, expected) => {
    expect(formatStatus(message)).toBe(expected);
  });
});

describe('sentences', () => {
  it('describe a failed GPU and the next step, and are empty for a healthy GPU', () => {
    expect(describeProblem(makeGpu())).toBeNull();
    expect(describeProblem(lost)).toContain('GPU 1 is lost');
    expect(describeProblem(lost)).toContain('Save your work');
    expect(describeProblem(makeGpu({ health: 'unknown' }))).toContain('error');
  });

  it('mark only a simulated GPU as simulated', () => {
    const real = makeGpu({ index: 1, simulated: false });
    expect(describeGpus(makeMessage({ gpus: [makeGpu(), real] }))).toBe(
      'GPU 0: NVIDIA A100-SXM4-80GB (simulated) · 12.0 / 80 GiB · 54 °C · 87 %\n' +
        'GPU 1: NVIDIA A100-SXM4-80GB · 12.0 / 80 GiB · 54 °C · 87 %'
    );
    expect(describeGpus(null)).toBe('');
  });
});
