/** The JupyterLab plugin: wires model, stream, panel and status bar together, and nothing else. */
import { ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, IThemeManager } from '@jupyterlab/apputils';
import { IStatusBar } from '@jupyterlab/statusbar';

import { gpuIcon } from './icon';
import { GpuModel } from './model';
import { GpuPanel, PANEL_ID } from './panel';
import { GpuStatus } from './status';
import { Stream, streamUrl } from './stream';

const OPEN_COMMAND = 'gpu-panel:open';

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyterlab-gpu-panel:plugin',
  description: "Live memory and temperature of this server's GPUs.",
  autoStart: true,
  optional: [ICommandPalette, ILayoutRestorer, IStatusBar, IThemeManager],
  activate: (
    app: JupyterFrontEnd,
    palette: ICommandPalette | null,
    restorer: ILayoutRestorer | null,
    statusBar: IStatusBar | null,
    themes: IThemeManager | null
  ): void => {
    const model = new GpuModel();
    const panel = new GpuPanel(model);
    app.shell.add(panel, 'right', { rank: 900 });
    restorer?.add(panel, PANEL_ID);
    themes?.themeChanged.connect(() => panel.redraw());

    app.commands.addCommand(OPEN_COMMAND, {
      label: 'Show GPU Panel',
      caption: "Live memory and temperature of this server's GPUs",
      icon: gpuIcon,
      execute: () => app.shell.activateById(PANEL_ID)
    });
    palette?.addItem({ command: OPEN_COMMAND, category: 'GPU' });
    const status = new GpuStatus(model, () => void app.commands.execute(OPEN_COMMAND));
    statusBar?.registerStatusItem(PANEL_ID, { item: status, align: 'left', rank: 100 });

    const { serverSettings } = app.serviceManager;
    new Stream({
      url: streamUrl(serverSettings),
      WebSocket: serverSettings.WebSocket,
      page: document,
      onMessage: message => model.accept(message),
      onConnection: connection => (model.connection = connection)
    });
  }
};

export default plugin;
