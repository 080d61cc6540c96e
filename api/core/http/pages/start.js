// Starts Swagger UI. A file of its own, so that the page needs no inline script.
"use strict";

window.ui = SwaggerUIBundle({
  url: document.currentScript.dataset.document,
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  showExtensions: false,
  filter: true,
  // The default would send the document to a server on the internet.
  validatorUrl: null,
});
