import { describe, expect, it } from '@jest/globals';

import { LeaseModel } from '../lease';
import { LeaseReading } from '../message';
import { makeLease } from './sample';

const HOUR = 3600;

/** Return a model with a reading of `changes` at 0 and a settable clock in seconds. */
function modelOf(changes: Partial<LeaseReading> = {}): {
  model: LeaseModel;
  at: (seconds: number) => LeaseModel;
} {
  let now_ms = 0;
  const model = new LeaseModel(() => now_ms);
  model.accept(makeLease(changes));
  const at = (seconds: number): LeaseModel => {
    now_ms = 1000 * seconds;
    return model;
  };
  return { model, at };
}

describe('LeaseModel', () => {
  it('counts down from the last reading of the server', () => {
    const { model, at } = modelOf({ seconds_left: 100 });
    expect(at(30).seconds_left).toBe(70);
    expect(at(130).seconds_left).toBe(-30);
    model.accept(makeLease({ seconds_left: 5000 }));
    expect(at(140).seconds_left).toBe(4990);
  });

  it('is empty without a hub, and has no countdown without an end', () => {
    const model = new LeaseModel(() => 0);
    expect([model.reading, model.seconds_left]).toEqual([null, null]);
    model.accept(makeLease({ seconds_left: null }));
    expect(model.seconds_left).toBeNull();
    expect(model.extensions()).toEqual([]);
  });

  it('emits for every reading and every tick', () => {
    const { model } = modelOf();
    let count = 0;
    model.changed.connect(() => count++);
    model.accept(null);
    model.tick();
    expect(count).toBe(2);
  });
});

describe('extensions', () => {
  const offered = (changes: Partial<LeaseReading>): [number, string][] =>
    modelOf(changes)
      .model.extensions()
      .map(({ hours, label }) => [Math.round(100 * hours) / 100, label]);

  it.each<[string, Partial<LeaseReading>, [number, string][]]>([
    [
      'a day, two hours left',
      { max_hours: 24, seconds_left: 2 * HOUR },
      [
        [1, '1 hour'],
        [4, '4 hours'],
        [21.98, 'as long as possible: 21 h 59 min']
      ]
    ],
    [
      'room for less than four',
      { max_hours: 4, seconds_left: 2 * HOUR },
      [
        [1, '1 hour'],
        [1.98, 'as long as possible: 1 h 59 min']
      ]
    ],
    [
      'room for minutes',
      { max_hours: 2, seconds_left: 1.75 * HOUR },
      [[0.23, 'as long as possible: 14 min']]
    ],
    ['no room', { max_hours: 2, seconds_left: 2 * HOUR - 90 }, []],
    [
      'no bound',
      { max_hours: null },
      [
        [1, '1 hour'],
        [4, '4 hours']
      ]
    ],
    ['a lost lease', { state: 'lost' }, []],
    [
      'an expired lease',
      { max_hours: 0.5, seconds_left: -9 },
      [[0.48, 'as long as possible: 29 min']]
    ]
  ])('%s', (_, changes, expected) => {
    expect(offered(changes)).toEqual(expected);
  });

  it('always request less than the hub allows, even a minute later', () => {
    for (const seconds_left of [10, 1799.9, 7200.5, 43211]) {
      const { at } = modelOf({ max_hours: 24, seconds_left });
      const longest = Math.max(
        ...at(0)
          .extensions()
          .map(({ hours }) => hours)
      );
      expect(seconds_left + longest * HOUR).toBeLessThanOrEqual(24 * HOUR - 60);
    }
  });
});
