import { describe, expect, it } from '@jest/globals';

import { LeaseModel } from '../lease';
import { LeaseReading } from '../message';
import { CANNOT_EXTEND, formatCountdown, formatExtension, formatWarning } from '../lease-format';
import { makeLease } from './sample';

const NOON = new Date(2026, 10, 23, 12, 0);

/** The limit of a notification. */
const MAX_CHARACTERS = 140;

function countdownOf(changes: Partial<LeaseReading>): ReturnType<typeof formatCountdown> {
  const lease = new LeaseModel(() => 0);
  lease.accept(makeLease(changes));
  return formatCountdown(lease, NOON);
}

describe('formatCountdown', () => {
  it.each<[Partial<LeaseReading>, ReturnType<typeof formatCountdown>]>([
    [
      { seconds_left: 8040 },
      { left: '2 h 14 min left', until: 'until 14:14', status: 'GPU lease: 2 h 14 min' }
    ],
    [
      { seconds_left: 59, confirmed: false },
      {
        left: 'under a minute left',
        until: 'until 12:00 (not confirmed)',
        status: 'GPU lease: under a minute (not confirmed)'
      }
    ],
    [
      { seconds_left: 0 },
      { left: 'ended', until: 'Your server stops now.', status: 'GPU lease: ended' }
    ],
    [{ seconds_left: null }, null]
  ])('%j', (changes, expected) => {
    expect(countdownOf(changes)).toEqual(expected);
  });
});

describe('sentences', () => {
  it('warn with the time of day', () => {
    expect(formatWarning(1800, 1799, NOON)).toContain('ends at 12:29, in less than 30 min');
    expect(formatWarning(300, 240, NOON)).toContain('ends at 12:04, in less than 5 min');
  });

  it('name the new end', () => {
    expect(formatExtension(3700, NOON)).toBe('Your GPU lease now ends at 13:01, in 1 h 1 min.');
  });

  it('fit into a notification on every weekday', () => {
    const midnight = new Date(2026, 10, 23, 23, 59);
    for (const text of [
      formatWarning(1800, 1799, midnight),
      formatExtension(9e5, midnight),
      CANNOT_EXTEND
    ]) {
      expect(text.length).toBeLessThanOrEqual(MAX_CHARACTERS);
    }
  });
});
