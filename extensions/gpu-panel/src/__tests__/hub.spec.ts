import { describe, expect, it } from '@jest/globals';
import { PageConfig } from '@jupyterlab/coreutils';

import { hubPage } from '../hub';

describe('hubPage', () => {
  it.each([
    ['', '/hub/', '/hub/help'],
    ['', '/team/hub/', '/team/hub/help'],
    ['https://gpu.example.org', '/hub/', 'https://gpu.example.org/hub/help']
  ])('joins host %p and prefix %p', (host, prefix, address) => {
    PageConfig.setOption('hubHost', host);
    PageConfig.setOption('hubPrefix', prefix);
    expect(hubPage('help')).toBe(address);
  });
});
