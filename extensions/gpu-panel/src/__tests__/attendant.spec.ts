import { beforeEach, describe, expect, it, jest } from '@jest/globals';

import { AttendantOptions, LabAttendant } from '../attendant';
import { LeaseModel } from '../lease';
import { makeLease } from './sample';

interface Action {
  label: string;
  callback: () => void;
}

// JupyterLab itself is in the browser tests; here is what it would show.
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

describe('LabAttendant', () => {
  let lease: LeaseModel;
  let attendant: LabAttendant;
  const extend = jest.fn<AttendantOptions['extend']>();
  const stay = jest.fn<AttendantOptions['stay']>();
  const saveAll = jest.fn<AttendantOptions['saveAll']>();
  const showPanel = jest.fn();
  const texts = (): string[] => [...shown.values()].map(({ type, text }) => `${type}: ${text}`);

  beforeEach(() => {
    shown.clear();
    offered = [];
    dialogs = [];
    extend.mockReset();
    stay.mockReset();
    lease = new LeaseModel(() => 0);
    lease.accept(makeLease({ seconds_left: 1000 }));
    answer = { button: { accept: true }, value: '4 hours' };
    attendant = new LabAttendant({
      lease,
      extend,
      stay,
      saveAll,
      showPanel,
      home: '/hub/home',
      info: null
    });
  });

  it('has one warning at a time, and takes it back', () => {
    attendant.warn(1800);
    attendant.warn(300);
    expect(texts()).toHaveLength(1);
    expect(texts()[0]).toContain('in less than 5 min');
    attendant.unwarn();
    expect(texts()).toEqual([]);
  });

  it('extends from the warning by what is chosen, and tells the new end', async () => {
    extend.mockResolvedValue(makeLease({ seconds_left: 15400 }));
    attendant.warn(1800);
    const action = [...shown.values()][0]?.actions.find(({ label }) => label === 'Extend by …');
    action?.callback();
    await new Promise(resolve => setTimeout(resolve));
    expect(offered).toEqual(['1 hour', '4 hours', 'as long as possible: 23 h 42 min']);
    expect(extend.mock.calls).toEqual([[4]]);
    expect(texts().at(-1)).toMatch(/^success: Your GPU lease now ends at .*, in 4 h 16 min\.$/);
  });

  it('tells a refusal in the words of the hub, and forgets it when the next try succeeds', async () => {
    extend.mockRejectedValueOnce(new Error('Others wait for GPUs.'));
    await attendant.extend();
    expect(texts()).toEqual(['error: Others wait for GPUs.']);
    extend.mockResolvedValueOnce(makeLease());
    await attendant.extend();
    expect(texts()).toHaveLength(1);
    expect(texts()[0]).toMatch(/^success/);
  });

  it('asks for nothing when the choice is cancelled, or there is none', async () => {
    answer = { button: { accept: false }, value: null };
    await attendant.extend();
    expect(texts()).toEqual([]);
    lease.accept(makeLease({ seconds_left: 24 * 3600 }));
    await attendant.extend();
    expect(texts()[0]).toContain('cannot be made longer');
    expect(extend).not.toHaveBeenCalled();
  });

  it('says what became of the server in place of what JupyterLab thinks of it', () => {
    dialogs = ['Server unavailable or unreachable'];
    attendant.end(true);
    expect(dialogs).toEqual(['Your GPUs were given back']);
    attendant.resume();
    attendant.end(false);
    expect(dialogs).toEqual(['Your GPU lease has ended']);
  });

  it('tells the newest trouble only, and shows the panel on demand', () => {
    attendant.trouble('GPU 3 failed.');
    attendant.trouble('GPU 4 failed.');
    expect(texts()).toEqual(['error: GPU 4 failed.']);
    [...shown.values()][0]?.actions[0]?.callback();
    expect(showPanel).toHaveBeenCalledTimes(1);
    attendant.trouble(null);
    expect(texts()).toEqual([]);
  });

  it('does not fail when saving does', async () => {
    const warn = jest.spyOn(console, 'warn').mockImplementation(() => undefined);
    saveAll.mockRejectedValueOnce(new Error('disk full'));
    attendant.save();
    await new Promise(resolve => setTimeout(resolve));
    expect(warn).toHaveBeenCalledTimes(1);
    warn.mockRestore();
  });

  it('warns of unused GPUs, and lets people say that they are here', async () => {
    lease.accept(makeLease({ idle_seconds_left: 900 }));
    attendant.idle(true);
    const [warning] = [...shown.values()];
    expect(warning?.text).toMatch(/^Nothing uses your GPUs\. They are given back at .*\d\d:\d\d,/);
    expect(warning?.text.length).toBeLessThanOrEqual(140);
    stay.mockResolvedValue(makeLease());
    warning?.actions[0]?.callback();
    await Promise.resolve();
    expect(lease.idle_seconds_left).toBeNull();
    attendant.idle(false);
    expect(shown.size).toBe(0);
  });

  it('says that the server goes on without GPUs, and takes it back', () => {
    attendant.goOn(true);
    expect(texts()).toHaveLength(1);
    expect(texts()[0]).toContain('started anew without any');
    expect([...shown.values()][0]?.text.length).toBeLessThanOrEqual(140);
    attendant.goOn(false);
    expect(texts()).toEqual([]);
  });

  it('tells why the hub did not hear that', async () => {
    stay.mockRejectedValue(new Error('The hub does not answer.'));
    await attendant.stay();
    expect(texts()).toEqual(['error: The hub does not answer.']);
  });
});
