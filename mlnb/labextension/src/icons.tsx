// The sidebar's own pictures; they take the colours of the theme.

import { LabIcon } from '@jupyterlab/ui-components';

/** An endpoint: two requests that reach a model. */
export const modelsIcon = new LabIcon({
  name: 'mlnb:models',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16" viewBox="0 0 24 24">
  <g class="jp-icon3" fill="none" stroke="#616161" stroke-width="2" stroke-linecap="round" stroke-linejoin="round">
    <path d="M12 3l7.8 4.5v9L12 21l-7.8-4.5v-9z" fill="none"/>
    <path d="M4.4 7.6L12 12l7.6-4.4M12 12v8.8" fill="none"/>
  </g>
</svg>`
});
