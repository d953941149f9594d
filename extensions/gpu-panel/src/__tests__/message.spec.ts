import { describe, expect, it } from '@jest/globals';

import { parseMessage } from '../message';
import { GOLDEN_TEXT } from './sample';

const parsed = (): Record<string, unknown> => JSON.parse(GOLDEN_TEXT) as Record<string, unknown>;

describe('parseMessage', () => {
  it('accepts the golden sample unchanged', () => {
    expect(parseMessage(GOLDEN_TEXT)).toEqual(JSON.parse(GOLDEN_TEXT));
  });

  it.each(Object.keys(parsed()))('names the missing key %s', key => {
    const text = JSON.stringify({ ...parsed(), [key]: undefined });
    expect(() => parseMessage(text)).toThrow(`"${key}"`);
  });

  const gpu = (parsed()['gpus'] as object[])[0] as Record<string, unknown>;
  const history = (parsed()['history'] as object[])[0] as Record<string, unknown>;

  it.each(Object.keys(gpu))('refuses a GPU whose %s is an object', key => {
    const gpus = [{ ...gpu, [key]: {} }];
    expect(() => parseMessage(JSON.stringify({ ...parsed(), gpus }))).toThrow('"gpus"');
  });

  const lease = parsed()['lease'] as Record<string, unknown>;

  it.each(Object.keys(lease))('refuses a lease whose %s is a list', key => {
    const changed = { ...lease, [key]: [] };
    expect(() => parseMessage(JSON.stringify({ ...parsed(), lease: changed }))).toThrow('"lease"');
  });

  it('accepts a message without a lease', () => {
    expect(parseMessage(JSON.stringify({ ...parsed(), lease: null })).lease).toBeNull();
  });

  it.each([
    ['another schema', { schema: 1 }],
    ['a period of zero', { period_seconds: 0 }],
    ['text for a number', { sampled_at: '1795000000' }],
    ['"N/A" for unknown', { gpus: [{ ...gpu, memory_used_bytes: 'N/A' }] }],
    ['a health of its own', { gpus: [{ ...gpu, health: 'fine' }] }],
    ['columns of unequal length', { history: [{ ...history, temperature_celsius: [1] }] }],
    ['GPUs that are no list', { gpus: gpu }]
  ])('refuses %s', (_, change) => {
    expect(() => parseMessage(JSON.stringify({ ...parsed(), ...change }))).toThrow();
  });

  it.each(['', 'null', '[]', '"text"', '{'])('refuses %j', text => {
    expect(() => parseMessage(text)).toThrow();
  });
});
