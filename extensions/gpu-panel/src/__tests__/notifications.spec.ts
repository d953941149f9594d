import { beforeEach, describe, expect, it, jest } from '@jest/globals';

import { NotificationOptions, LeaseNotifications } from '../notifications';
import { LeaseModel } from '../lease';
import { makeLease } from './sample';

interface Action {
  label: string;
  callback: () => void;
}

// a replacement of JupyterLab's notifications; the browser tests cover JupyterLab itself
const shown = new Map<string, { type: string; text: string; actions: Action[] }>();
let answer: { button: { accept: boolean }; value: string | null };
let offered: string[] = [];
let dialogs: string[] = [];

jest.mock('@jupyterlab/apputils', () => {
  const notify =
    (type: string) =>
    (text: string, options: { actions?: Action[] }): string => {
      const id = `${type} ${text}`;
      shown.set(id, { type, text, actions: options.actions ?? [] });
      return id;
    };
  class Dialog {
    static flush = (): void => void (dialogs = []);
    static cancelButton = ({ label }: { label: string }): string => label;
    static okButton = Dialog.cancelButton;
    constructor(private readonly _options: { title: string }) {}
    launch(): Promise<unknown> {
      dialogs.push(this._options.title);
      return new Promise(() => undefined);
    }
    reject(): void {
      dialogs = dialogs.filter(title => title !== this._options.title);
    }
  }
  return {
    Dialog,
    Notification: {
      info: notify('info'),
      success: notify('success'),
      warning: notify('warning'),
      error: notify('error'),
      dismiss: (id: string) => shown.delete(id)
    },
    InputDialog: {
      getItem: ({ items }: { items: string[] }) => {
        offered = items;
        return Promise.resolve(answer);
      }
    }
  };
});

describe('LeaseNotifications', () => {
  let lease: LeaseModel;
  let notifications: LeaseNotifications;
  const extend = jest.fn<NotificationOptions['extend']>();
  const keepAlive = jest.fn<NotificationOptions['keepAlive']>();
  const saveAll = jest.fn<NotificationOptions['saveAll']>();
  const showPanel = jest.fn();
  const texts = (): string[] => [...shown.values()].map(({ type, text }) => `${type}: ${text}`);

  beforeEach(() => {
    shown.clear();
    offered = [];
    dialogs = [];
    extend.mockReset();
    keepAlive.mockReset();
    lease = new LeaseModel(() => 0);
    lease.accept(makeLease({ seconds_left: 1000 }));
    answer = { button: { accept: true }, value: '4 hours' };
    notifications = new LeaseNotifications({
      lease,
      extend,
      keepAlive,
      saveAll,
      showPanel,
      home: '/hub/home',
      info: null
    });
  });

  it('shows one warning at a time, and removes it', () => {
    notifications.showWarning(1800);
    notifications.showWarning(300);
    expect(texts()).toHaveLength(1);
    expect(texts()[0]).toContain('in less than 5 min');
    notifications.dismissWarning();
    expect(texts()).toEqual([]);
  });

  it('extends from the warning by the chosen hours, and shows the new end', async () => {
    extend.mockResolvedValue(makeLease({ seconds_left: 15400 }));
    notifications.showWarning(1800);
    const action = [...shown.values()][0]?.actions.find(({ label }) => label === 'Extend by …');
    action?.callback();
    await new Promise(resolve => setTimeout(resolve));
    expect(offered).toEqual(['1 hour', '4 hours', 'as long as possible: 23 h 42 min']);
    expect(extend.mock.calls).toEqual([[4]]);
    expect(texts().at(-1)).toMatch(/^success: Your GPU lease now ends at .*, in 4 h 16 min\.$/);
  });

  it('shows a refusal in the words of the hub, and removes it after a success', async () => {
    extend.mockRejectedValueOnce(new Error('Others wait for GPUs.'));
    await notifications.extend();
    expect(texts()).toEqual(['error: Others wait for GPUs.']);
    extend.mockResolvedValueOnce(makeLease());
    await notifications.extend();
    expect(texts()).toHaveLength(1);
    expect(texts()[0]).toMatch(/^success/);
  });

  it('sends no request without a choice', async () => {
    answer = { button: { accept: false }, value: null };
    await notifications.extend();
    expect(texts()).toEqual([]);
    lease.accept(makeLease({ seconds_left: 24 * 3600 }));
    await notifications.extend();
    expect(texts()[0]).toContain('longest duration now');
    expect(extend).not.toHaveBeenCalled();
  });

  it('replaces the dialog of JupyterLab about the server', () => {
    dialogs = ['Server unavailable or unreachable'];
    notifications.showEnd(true);
    expect(dialogs).toEqual(['Your GPUs were given back']);
    notifications.dismissEnd();
    notifications.showEnd(false);
    expect(dialogs).toEqual(['Your GPU lease has ended']);
  });

  it('shows only the newest trouble, and opens the panel on demand', () => {
    notifications.showTrouble('GPU 3 failed.');
    notifications.showTrouble('GPU 4 failed.');
    expect(texts()).toEqual(['error: GPU 4 failed.']);
    [...shown.values()][0]?.actions[0]?.callback();
    expect(showPanel).toHaveBeenCalledTimes(1);
    notifications.showTrouble(null);
    expect(texts()).toEqual([]);
  });

  it('survives a failed save', async () => {
    const warn = jest.spyOn(console, 'warn').mockImplementation(() => undefined);
    saveAll.mockRejectedValueOnce(new Error('disk full'));
    notifications.saveAll();
    await new Promise(resolve => setTimeout(resolve));
    expect(warn).toHaveBeenCalledTimes(1);
    warn.mockRestore();
  });

  it('warns about unused GPUs, with a button against the release', async () => {
    lease.accept(makeLease({ idle_seconds_left: 900 }));
    notifications.showIdle(true);
    const [warning] = [...shown.values()];
    expect(warning?.text).toMatch(/^Nothing uses your GPUs\. They are given back at .*\d\d:\d\d,/);
    expect(warning?.text.length).toBeLessThanOrEqual(140);
    keepAlive.mockResolvedValue(makeLease());
    warning?.actions[0]?.callback();
    await Promise.resolve();
    expect(lease.idle_seconds_left).toBeNull();
    notifications.showIdle(false);
    expect(shown.size).toBe(0);
  });

  it('reports a server that runs without GPUs, and removes the report', () => {
    notifications.showWithoutGpus(true);
    expect(texts()).toHaveLength(1);
    expect(texts()[0]).toContain('restarted without GPUs');
    expect([...shown.values()][0]?.text.length).toBeLessThanOrEqual(140);
    notifications.showWithoutGpus(false);
    expect(texts()).toEqual([]);
  });

  it('shows the error of a failed keep-alive', async () => {
    keepAlive.mockRejectedValue(new Error('The hub does not answer.'));
    await notifications.keepAlive();
    expect(texts()).toEqual(['error: The hub does not answer.']);
  });
});
