// What a model writes, as elements. Nothing in it is ever taken for HTML: tags are shown as the text they are, no
// picture is fetched, and what marked makes of the rest goes through DOMPurify with a short list of tags.

import { copy, icon, make } from "/page/dom.js";
import DOMPurify from "/page/vendor/dompurify.js";
import highlight from "/page/vendor/highlight.js";
import { Marked } from "/page/vendor/marked.js";

const TAGS = [
  "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "input", "li", "ol", "p", "pre",
  "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
];
const ATTRIBUTES = ["align", "checked", "class", "disabled", "href", "start", "type"];
const LONGEST = 400_000;
const LONGEST_COLOURED = 40_000;

const escape = (text) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ text }) => escape(text),
    // A picture's address would tell its host that it was shown.
    image: ({ href, text }) => `<a href="${escape(href)}">${escape(text || href)}</a>`,
    heading({ tokens, depth }) {  // below the conversation's own
      const level = Math.min(depth + 1, 6);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
    },
  },
});

const purify = DOMPurify(window);
purify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    if (!/^(?:https?|mailto):/i.test(node.getAttribute("href") ?? "")) node.removeAttribute("href");
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  } else if (node.tagName === "INPUT") {
    if (node.getAttribute("type") !== "checkbox") node.remove();
    else node.setAttribute("aria-label", node.hasAttribute("checked") ? "done" : "to do");
  } else if (node.hasAttribute("class") && !/^language-[\w+#.-]{1,30}$/.test(node.className)) {
    node.removeAttribute("class");
  }
});

const purifyColours = DOMPurify(window);  // without the hooks

/**
 * Elements for a text in Markdown.
 * @param {string} text of a model.
 * @returns {Node} safe to put into the page.
 */
export function renderMarkdown(text) {
  if (text.length > LONGEST) return make("p", { class: "as-is" }, text);
  const fragment = purify.sanitize(marked.parse(text), {
    ALLOWED_TAGS: TAGS, ALLOWED_ATTR: ATTRIBUTES, ALLOW_DATA_ATTR: false, ALLOW_ARIA_ATTR: false, RETURN_DOM_FRAGMENT: true,
  });
  for (const block of fragment.querySelectorAll("pre")) frameCode(block);
  for (const table of fragment.querySelectorAll("table")) {
    const frame = make("div", { class: "table", tabIndex: 0, role: "region", "aria-label": "Table" });
    table.replaceWith(frame);
    frame.append(table);
  }
  return fragment;
}

/** A frame around a block of code: its language, a button that copies it, and colours. */
function frameCode(block) {
  const code = block.querySelector("code") ?? block;
  const source = code.textContent.replace(/\n$/, "");
  const language = /language-(\S+)/.exec(code.className)?.[1] ?? "";
  const button = make("button", { type: "button", class: "plain", onclick: () => copy(source, button) }, icon("copy"), "Copy");
  const shown = make("code", {});
  if (highlight.getLanguage(language) && source.length <= LONGEST_COLOURED) {
    const coloured = highlight.highlight(source, { language, ignoreIllegals: true }).value;
    shown.append(purifyColours.sanitize(coloured, { ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"], RETURN_DOM_FRAGMENT: true }));
  } else {
    shown.textContent = source;
  }
  block.replaceWith(
    make("figure", { class: "code" },
      make("figcaption", {}, make("span", {}, language || "text"), button),
      make("pre", { tabIndex: 0, role: "region", "aria-label": `Code${language ? ` in ${language}` : ""}` }, shown)),
  );
}
