// The page's language, and the texts of all packs as the server has them (the page itself may lose
// packs' texts).

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

let texts = null;

export const language = () => app.extensionManager.setting.get("Comfy.Locale") ?? "en";

/** Language -> texts, asked for once. */
export function servedTexts() {
  texts ??= ask();
  return texts;
}

async function ask() {
  try {
    return await (await api.fetchApi("/i18n")).json();
  } catch (error) {
    texts = null; // ask again
    throw error;
  }
}
