import { beforeEach, describe, expect, it } from '@jest/globals';

import { LeaseMonitor } from '../lease-monitor';
import { LeaseModel } from '../lease';
import { LeaseReading } from '../message';
import { Connection } from '../model';
import { makeLease } from './sample';

const MINUTE = 60;

describe('LeaseMonitor', () => {
  let connection: Connection;
  let monitor: LeaseMonitor;
  let lease: LeaseModel;
  let now_ms: number;
  let calls: string[];

  /** Deliver a reading of the server. */
  const receive = (seconds_left: number | null, changes: Partial<LeaseReading> = {}): void => {
    lease.accept(makeLease({ seconds_left, ...changes }));
    monitor.update(connection);
  };

  /** Advance the clock without a reading. */
  const pass = (seconds: number): void => {
    for (let second = 0; second < seconds; second++) {
      now_ms += 1000;
      monitor.update(connection);
    }
  };

  beforeEach(() => {
    connection = 'live';
    now_ms = 0;
    calls = [];
    lease = new LeaseModel(() => now_ms);
    monitor = new LeaseMonitor(lease, {
      showWarning: seconds => calls.push(`warn ${seconds}`),
      dismissWarning: () => calls.push('dismissWarning'),
      saveAll: () => calls.push('save'),
      showEnd: wasIdle => calls.push(wasIdle ? 'end idle' : 'end'),
      dismissEnd: () => calls.push('resume'),
      showWithoutGpus: isWithoutGpus => calls.push(`go on ${isWithoutGpus}`),
      showIdle: isSoon => calls.push(`idle ${isSoon}`),
      showTrouble: sentence => calls.push(`trouble: ${sentence ?? 'over'}`)
    });
  });

  it('acts once per event, in order', () => {
    receive(31 * MINUTE);
    pass(40 * MINUTE);
    expect(calls).toEqual(['warn 1800', 'warn 300', 'save', 'end']);
  });

  it('warns at 30 and at 5 minutes, and saves 2 minutes before the end', () => {
    receive(30 * MINUTE + 1);
    expect(calls).toEqual([]);
    pass(1);
    expect(calls).toEqual(['warn 1800']);
    pass(25 * MINUTE - 1);
    expect(calls).toHaveLength(1);
    pass(1);
    expect(calls).toEqual(['warn 1800', 'warn 300']);
    pass(3 * MINUTE);
    expect(calls.at(-1)).toBe('save');
  });

  it('warns once about unused GPUs, and removes the warning', () => {
    receive(10000, { idle_seconds_left: 900 });
    pass(60);
    expect(calls).toEqual(['idle true']);
    receive(9940, { idle_seconds_left: null });
    expect(calls).toEqual(['idle true', 'idle false']);
  });

  it('reports an idle release when the server stops, until it runs without GPUs', () => {
    receive(10000, { idle_seconds_left: 30 });
    pass(40);
    expect(calls).toEqual(['idle true', 'save']);
    connection = 'lost';
    pass(5);
    expect(calls.slice(2)).toEqual(['end idle']);
    connection = 'live';
    receive(null, { gpus_given_back: 1 });
    pass(5);
    expect(calls.slice(3)).toEqual(['idle false', 'go on true', 'resume']);
    receive(10000);
    expect(calls.slice(6)).toEqual(['go on false']);
  });

  it('saves before an idle release', () => {
    receive(10000, { idle_seconds_left: 200 });
    pass(79);
    expect(calls).toEqual(['idle true']);
    pass(1);
    expect(calls).toEqual(['idle true', 'save']);
  });

  it('reports no end for a connection lost before an idle release', () => {
    receive(10000, { idle_seconds_left: 30 });
    connection = 'lost';
    pass(29);
    expect(calls).toEqual(['idle true', 'save']);
  });

  it('shows no idle warning without a connection', () => {
    connection = 'lost';
    receive(10000, { idle_seconds_left: 900 });
    expect(calls).toEqual([]);
  });

  it('shows only the nearest warning after a reload', () => {
    receive(4 * MINUTE);
    expect(calls).toEqual(['warn 300']);
  });

  it('warns again for a new end, and removes the old warning', () => {
    receive(4 * MINUTE);
    receive(64 * MINUTE);
    pass(60 * MINUTE);
    expect(calls).toEqual(['warn 300', 'dismissWarning', 'warn 1800', 'warn 300']);
  });

  it('treats a correction of the countdown as no extension', () => {
    receive(30 * MINUTE);
    receive(30 * MINUTE + 2);
    receive(30 * MINUTE);
    expect(calls).toEqual(['warn 1800']);
  });

  it('saves again before a new end', () => {
    receive(MINUTE);
    receive(61 * MINUTE);
    pass(60 * MINUTE);
    expect(calls.filter(what => what === 'save')).toHaveLength(2);
  });

  it('is silent in a hidden page, but saves', () => {
    receive(31 * MINUTE);
    connection = 'standby';
    pass(40 * MINUTE);
    expect(calls).toEqual(['save']);
  });

  it('neither warns nor saves without a connection', () => {
    receive(31 * MINUTE);
    connection = 'lost';
    pass(31 * MINUTE - 1);
    expect(calls).toEqual([]);
    pass(1);
    expect(calls).toEqual(['end']);
  });

  it('reports no end that the hub does not confirm', () => {
    receive(MINUTE, { confirmed: false });
    pass(10 * MINUTE);
    expect(calls).not.toContain('end');
    connection = 'connecting';
    pass(1);
    expect(calls).not.toContain('end');
    connection = 'lost';
    pass(1);
    expect(calls).toContain('end');
  });

  it('gives a connected server time to confirm the end', () => {
    receive(1);
    pass(3);
    receive(MINUTE);
    pass(30);
    expect(calls).not.toContain('end');
  });

  it('removes the end after an extension', () => {
    receive(1);
    connection = 'lost';
    pass(10);
    connection = 'connecting';
    pass(10);
    expect(calls.at(-1)).toBe('end');
    connection = 'live';
    receive(24 * 60 * MINUTE);
    expect(calls).toContain('resume');
    expect(calls.filter(what => what === 'end')).toHaveLength(1);
  });

  it('shows each trouble once, and removes it', () => {
    receive(3600, { trouble: 'GPU 3 failed.' });
    pass(5);
    receive(3600, { trouble: 'GPU 3 failed.' });
    receive(3600, { trouble: 'GPU 3 and GPU 4 failed.' });
    receive(3600);
    expect(calls).toEqual([
      'trouble: GPU 3 failed.',
      'trouble: GPU 3 and GPU 4 failed.',
      'trouble: over'
    ]);
  });

  it('is silent without an end and without a hub', () => {
    receive(null);
    pass(10);
    lease.accept(null);
    pass(10);
    expect(calls).toEqual([]);
  });
});
