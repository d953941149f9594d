import { describe, expect, it } from '@jest/globals';

import { LeaseModel } from '../lease';
import { LeaseReading } from '../message';
import { NO_ROOM, sayCountdown, sayExtended, sayWarning } from '../words';
import { makeLease } from './sample';

const NOON = new Date(2026, 10, 23, 12, 0);

/** A notification shows no more. */
const MOST_CHARACTERS = 140;

function countdownOf(changes: Partial<LeaseReading>): ReturnType<typeof sayCountdown> {
  const lease = new LeaseModel(() => 0);
  lease.accept(makeLease(changes));
  return sayCountdown(lease, NOON);
}

describe('sayCountdown', () => {
  it.each<[Partial<LeaseReading>, ReturnType<typeof sayCountdown>]>([
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
      { left: 'over', until: 'Your server is stopped now.', status: 'GPU lease: over' }
    ],
    [{ seconds_left: null }, null]
  ])('%j', (changes, expected) => {
    expect(countdownOf(changes)).toEqual(expected);
  });
});

describe('sentences', () => {
  it('warn with the time of day', () => {
    expect(sayWarning(1800, 1799, NOON)).toContain('ends at 12:29, in less than 30 min');
    expect(sayWarning(300, 240, NOON)).toContain('ends at 12:04, in less than 5 min');
  });

  it('tell the new end', () => {
    expect(sayExtended(3700, NOON)).toBe('Your GPU lease now ends at 13:01, in 1 h 1 min.');
  });

  it('fit into a notification, whatever the weekday', () => {
    const midnight = new Date(2026, 10, 23, 23, 59);
    for (const text of [sayWarning(1800, 1799, midnight), sayExtended(9e5, midnight), NO_ROOM]) {
      expect(text.length).toBeLessThanOrEqual(MOST_CHARACTERS);
    }
  });
});
