import { beforeEach, describe, expect, it } from '@jest/globals';

import { LeaseGuard } from '../guard';
import { LeaseModel } from '../lease';
import { LeaseReading } from '../message';
import { Connection } from '../model';
import { makeLease } from './sample';

const MINUTE = 60;

describe('LeaseGuard', () => {
  let connection: Connection;
  let guard: LeaseGuard;
  let lease: LeaseModel;
  let now_ms: number;
  let said: string[];

  /** Let the server say how much is left. */
  const tell = (seconds_left: number | null, changes: Partial<LeaseReading> = {}): void => {
    lease.accept(makeLease({ seconds_left, ...changes }));
    guard.update(connection);
  };

  /** Let time pass without a word of the server. */
  const pass = (seconds: number): void => {
    for (let second = 0; second < seconds; second++) {
      now_ms += 1000;
      guard.update(connection);
    }
  };

  beforeEach(() => {
    connection = 'live';
    now_ms = 0;
    said = [];
    lease = new LeaseModel(() => now_ms);
    guard = new LeaseGuard(lease, {
      warn: seconds => said.push(`warn ${seconds}`),
      unwarn: () => said.push('unwarn'),
      save: () => said.push('save'),
      end: wasIdle => said.push(wasIdle ? 'end idle' : 'end'),
      resume: () => said.push('resume'),
      goOn: isWithout => said.push(`go on ${isWithout}`),
      idle: isSoon => said.push(`idle ${isSoon}`),
      trouble: sentence => said.push(`trouble: ${sentence ?? 'over'}`)
    });
  });

  it('says and does everything once, in order', () => {
    tell(31 * MINUTE);
    pass(40 * MINUTE);
    expect(said).toEqual(['warn 1800', 'warn 300', 'save', 'end']);
  });

  it('warns at 30 and at 5 minutes, and saves 2 minutes before the end', () => {
    tell(30 * MINUTE + 1);
    expect(said).toEqual([]);
    pass(1);
    expect(said).toEqual(['warn 1800']);
    pass(25 * MINUTE - 1);
    expect(said).toHaveLength(1);
    pass(1);
    expect(said).toEqual(['warn 1800', 'warn 300']);
    pass(3 * MINUTE);
    expect(said.at(-1)).toBe('save');
  });

  it('warns once of GPUs that nothing uses, and takes it back', () => {
    tell(10000, { idle_seconds_left: 900 });
    pass(60);
    expect(said).toEqual(['idle true']);
    tell(9940, { idle_seconds_left: null });
    expect(said).toEqual(['idle true', 'idle false']);
  });

  it('says that they were given back when the server is gone then, until it goes on without', () => {
    tell(10000, { idle_seconds_left: 30 });
    pass(40);
    expect(said).toEqual(['idle true', 'save']);
    connection = 'lost';
    pass(5);
    expect(said.slice(2)).toEqual(['end idle']);
    connection = 'live';
    tell(null, { gpus_given_back: 1 });
    pass(5);
    expect(said.slice(3)).toEqual(['idle false', 'go on true', 'resume']);
    tell(10000);
    expect(said.slice(6)).toEqual(['go on false']);
  });

  it('saves before they are given back', () => {
    tell(10000, { idle_seconds_left: 200 });
    pass(79);
    expect(said).toEqual(['idle true']);
    pass(1);
    expect(said).toEqual(['idle true', 'save']);
  });

  it('takes a server that is gone before that for no end', () => {
    tell(10000, { idle_seconds_left: 30 });
    connection = 'lost';
    pass(29);
    expect(said).toEqual(['idle true', 'save']);
  });

  it('says nothing about that without a connection', () => {
    connection = 'lost';
    tell(10000, { idle_seconds_left: 900 });
    expect(said).toEqual([]);
  });

  it('gives only the nearest warning after a reload', () => {
    tell(4 * MINUTE);
    expect(said).toEqual(['warn 300']);
  });

  it('warns anew for a new end, and takes the old warning back', () => {
    tell(4 * MINUTE);
    tell(64 * MINUTE);
    pass(60 * MINUTE);
    expect(said).toEqual(['warn 300', 'unwarn', 'warn 1800', 'warn 300']);
  });

  it('takes a correction of the countdown for no extension', () => {
    tell(30 * MINUTE);
    tell(30 * MINUTE + 2);
    tell(30 * MINUTE);
    expect(said).toEqual(['warn 1800']);
  });

  it('saves again before a new end', () => {
    tell(MINUTE);
    tell(61 * MINUTE);
    pass(60 * MINUTE);
    expect(said.filter(what => what === 'save')).toHaveLength(2);
  });

  it('says nothing in a page that is hidden, but saves', () => {
    tell(31 * MINUTE);
    connection = 'standby';
    pass(40 * MINUTE);
    expect(said).toEqual(['save']);
  });

  it('neither warns nor saves without a connection', () => {
    tell(31 * MINUTE);
    connection = 'lost';
    pass(31 * MINUTE - 1);
    expect(said).toEqual([]);
    pass(1);
    expect(said).toEqual(['end']);
  });

  it('takes an end that the hub does not confirm for none', () => {
    tell(MINUTE, { confirmed: false });
    pass(10 * MINUTE);
    expect(said).not.toContain('end');
    connection = 'connecting';
    pass(1);
    expect(said).not.toContain('end');
    connection = 'lost';
    pass(1);
    expect(said).toContain('end');
  });

  it('gives a server that speaks a moment to ask whether this is the end', () => {
    tell(1);
    pass(3);
    tell(MINUTE);
    pass(30);
    expect(said).not.toContain('end');
  });

  it('takes the end back when there is time again', () => {
    tell(1);
    connection = 'lost';
    pass(10);
    connection = 'connecting';
    pass(10);
    expect(said.at(-1)).toBe('end');
    connection = 'live';
    tell(24 * 60 * MINUTE);
    expect(said).toContain('resume');
    expect(said.filter(what => what === 'end')).toHaveLength(1);
  });

  it('tells each trouble once, and when it is over', () => {
    tell(3600, { trouble: 'GPU 3 failed.' });
    pass(5);
    tell(3600, { trouble: 'GPU 3 failed.' });
    tell(3600, { trouble: 'GPU 3 and GPU 4 failed.' });
    tell(3600);
    expect(said).toEqual([
      'trouble: GPU 3 failed.',
      'trouble: GPU 3 and GPU 4 failed.',
      'trouble: over'
    ]);
  });

  it('has nothing to say of a lease without an end, and outside a hub', () => {
    tell(null);
    pass(10);
    lease.accept(null);
    pass(10);
    expect(said).toEqual([]);
  });
});
