// A warning of the server stays on its node until the node runs again: then it is taken off, so
// that it does not outlive its cause. (The page itself never removes such texts.)

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const TEXT_WIDGET = "$$node-text-preview";

/** The node of an execution id; inside subgraphs it is a path such as "5:3". */
function findNode(executionId) {
  let graph = app.graph;
  let node = null;
  for (const id of String(executionId).split(":")) {
    node = graph?.getNodeById(id) ?? null;
    graph = node?.subgraph;
  }
  return node;
}

function takeOffWarning({ detail }) {
  const node = detail === null ? null : findNode(detail);
  if (!node?.comfyClass?.startsWith("SubjectDiffusion")) return;
  const widget = node.widgets?.find(({ name }) => name === TEXT_WIDGET);
  if (!widget) return;
  node.removeWidget(widget);
  node.setDirtyCanvas?.(true, true);
}

app.registerExtension({
  name: "SubjectDiffusion.NodeWarnings",
  setup() {
    api.addEventListener("executing", takeOffWarning);
  },
});
