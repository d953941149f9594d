import { describe, expect, it } from '@jest/globals';

import { ServerCard, formatCores } from '../server-card';
import { makeLease, makeMessage } from './sample';

const { server } = makeMessage();

function rows(card: ServerCard): string[] {
  return [...card.node.querySelectorAll<HTMLElement>('.gpu-panel-Row')]
    .filter(row => !row.hidden)
    .map(row => row.textContent);
}

describe('ServerCard', () => {
  it('shows CPU, memory, home and disk, and warns of a home that is nearly full', () => {
    const card = new ServerCard();
    card.update(server, makeLease());
    expect(rows(card)).toEqual([
      'Server',
      'CPU1.3 of 4 cores',
      'Memory6.0 / 16 GiB',
      'Home4.6 / 5 GiB',
      'Disk100.0 / 1024 GiB'
    ]);
    const warnings = card.node.querySelectorAll('.gpu-panel-mod-warning');
    expect([...warnings].map(node => node.textContent)).toEqual(['4.6 / 5 GiB']);
  });

  it('shows no home without a quota, and a dash for an unknown value', () => {
    const card = new ServerCard();
    card.update({ ...server, memory_used_bytes: null }, null);
    expect(rows(card).some(text => text.startsWith('Home'))).toBe(false);
    expect(rows(card)[2]).toBe('Memory– / 16 GiB');
    expect(formatCores({ ...server, cpu_cores: null })).toBe('–');
    expect(formatCores({ ...server, cpu_cores_limit: null })).toBe('1.3 cores');
  });
});
