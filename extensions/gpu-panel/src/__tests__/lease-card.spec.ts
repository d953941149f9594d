import { beforeEach, describe, expect, it, jest } from '@jest/globals';

import { LeaseModel } from '../lease';
import { LeaseCard } from '../lease-card';
import { LeaseReading } from '../message';
import { makeLease } from './sample';

describe('LeaseCard', () => {
  let card: LeaseCard;
  const onExtend = jest.fn();
  const onKeepAlive = jest.fn();
  const find = (selector: string): HTMLElement => {
    const node = card.node.querySelector<HTMLElement>(selector);
    if (node === null) {
      throw new Error(`nothing is ${selector}`);
    }
    return node;
  };
  const show = (reading: LeaseReading | null): void => {
    const lease = new LeaseModel(() => 0);
    lease.accept(reading);
    card.update(lease);
  };

  beforeEach(() => {
    onExtend.mockReset();
    onKeepAlive.mockReset();
    card = new LeaseCard(onExtend, onKeepAlive);
  });

  it('counts down to the end', () => {
    show(makeLease());
    expect(card.node.hidden).toBe(false);
    expect(find('[role="timer"]').textContent).toBe('2 h 14 min left');
    expect(find('.gpu-panel-Lease-until').textContent).toMatch(/^until .*\d\d:\d\d$/);
    show(makeLease({ seconds_left: -1 }));
    expect(find('[role="timer"]').textContent).toBe('ended');
  });

  it('marks an unconfirmed countdown', () => {
    show(makeLease({ confirmed: false }));
    expect(find('.gpu-panel-Lease-until').textContent).toContain('(not confirmed)');
  });

  it('shows an idle release, with a button against it', () => {
    show(makeLease());
    expect(find('.gpu-panel-Lease-idle').parentElement?.hidden).toBe(true);
    show(makeLease({ idle_seconds_left: 725 }));
    const row = find('.gpu-panel-Lease-idle').parentElement;
    expect(row?.hidden).toBe(false);
    expect(row?.textContent).toContain('given back in 12 min');
    row?.querySelector('button')?.click();
    expect(onKeepAlive).toHaveBeenCalledTimes(1);
    show(makeLease({ idle_seconds_left: 0 }));
    expect(row?.textContent).toContain('given back now');
  });

  it('is hidden without a hub and without an end', () => {
    show(null);
    expect(card.node.hidden).toBe(true);
    show(makeLease({ seconds_left: null }));
    expect(card.node.hidden).toBe(true);
  });

  it('shows trouble as text, also for a lease without an end', () => {
    show(makeLease({ seconds_left: null, trouble: '<b>GPU 3</b> failed.' }));
    expect(card.node.hidden).toBe(false);
    expect(find('.gpu-panel-Problem').textContent).toBe('<b>GPU 3</b> failed.');
    expect(find('.gpu-panel-Problem').hidden).toBe(false);
    show(makeLease());
    expect(find('.gpu-panel-Problem').hidden).toBe(true);
  });

  it('has a button to extend a running lease only', () => {
    show(makeLease());
    find('[aria-label="Extend the GPU lease"]').click();
    expect(onExtend).toHaveBeenCalledTimes(1);
    for (const ended of [makeLease({ state: 'lost' }), makeLease({ seconds_left: 0 })]) {
      show(ended);
      expect(find('[aria-label="Extend the GPU lease"]').hidden).toBe(true);
    }
  });
});
