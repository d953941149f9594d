/** Icon: a graphics card in the colours of JupyterLab's icons. */
import { LabIcon } from '@jupyterlab/ui-components';

const SVG = `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <path class="jp-icon3 jp-icon-selectable" fill="#616161" fill-rule="evenodd"
    d="M2 4h2v2h16a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2h-3v2h-2v-2h-2v2h-2v-2H8v2H6v-2H4v2H2zM4 8v8h16V8z
      M9 9a3 3 0 1 1 0 6a3 3 0 0 1 0-6zm0 1.8a1.2 1.2 0 1 0 0 2.4a1.2 1.2 0 0 0 0-2.4z
      M14 9.5h4v1.6h-4zm0 3.4h4v1.6h-4z"/>
</svg>`;

export const gpuIcon = new LabIcon({ name: 'gpu-panel:gpu', svgstr: SVG });
