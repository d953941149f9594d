import { describe, expect, it } from '@jest/globals';

import { GpuModel } from '../model';
import { makeGpu, makeMessage } from './sample';

const GIB = 2 ** 30;

/** Return a model after one message at each of `times`, without history. */
function modelAt(...times: number[]): GpuModel {
  const model = new GpuModel();
  for (const sampled_at of times) {
    model.accept(makeMessage({ sampled_at, history: [] }));
  }
  return model;
}

describe('GpuModel', () => {
  it('counts the age of points from the latest message', () => {
    expect(modelAt(100, 101, 102).series(makeGpu()).age_seconds).toEqual([-2, -1, 0]);
  });

  it('drops points older than five minutes', () => {
    const { age_seconds } = modelAt(100, 101, 400, 401).series(makeGpu());
    expect(age_seconds.filter(Number.isInteger)).toEqual([-300, -1, 0]);
  });

  it('breaks the lines where readings are missing', () => {
    const series = modelAt(100, 101, 110).series(makeGpu());
    expect(series.age_seconds).toEqual([-10, -9, -4.5, 0]);
    expect(series.temperature_celsius).toEqual([54, 54, null, 54]);
    expect(series.memory_percent).toEqual([15, 15, null, 15]);
  });

  it('keeps an unknown value unknown', () => {
    const model = new GpuModel();
    const gpu = makeGpu({ memory_used_bytes: null, temperature_celsius: null });
    model.accept(makeMessage({ gpus: [gpu], history: [] }));
    expect(model.series(gpu).memory_percent).toEqual([null]);
    expect(model.series(gpu).temperature_celsius).toEqual([null]);
  });

  it('merges the history of the first message with its own points', () => {
    const model = modelAt(100, 101);
    const past = {
      uuid: makeGpu().uuid ?? '',
      sampled_at: [99, 100, 102],
      memory_used_bytes: [8 * GIB, 8 * GIB, 8 * GIB],
      temperature_celsius: [50, 50, 50],
      utilization_percent: [1, 1, 1]
    };
    model.accept(makeMessage({ sampled_at: 103, history: [past] }));
    const series = model.series(makeGpu());
    expect(series.age_seconds).toEqual([-4, -3, -2, -1, 0]);
    expect(series.memory_percent).toEqual([10, 10, 15, 10, 15]);
  });

  it('keeps the GPUs apart', () => {
    const model = new GpuModel();
    const second = makeGpu({ uuid: 'GPU-2', index: 1, temperature_celsius: 70 });
    model.accept(makeMessage({ gpus: [makeGpu(), second], history: [] }));
    expect(model.series(makeGpu()).temperature_celsius).toEqual([54]);
    expect(model.series(second).temperature_celsius).toEqual([70]);
  });

  it('has an empty series for an unknown GPU', () => {
    expect(modelAt(100).series(makeGpu({ uuid: 'GPU-2' })).age_seconds).toEqual([]);
  });

  it('emits for every message and every changed connection only', () => {
    const model = new GpuModel();
    let count = 0;
    model.changed.connect(() => count++);
    model.accept(makeMessage());
    model.accept(makeMessage());
    expect(count).toBe(2);
    model.connection = 'live';
    model.connection = 'live';
    expect(count).toBe(3);
  });
});
