// What is shown stands in the address, after the #: the view's name and its filters, so that any view can be linked.

export function state() {
  const hash = location.hash.replace(/^#\/?/, "");
  const [view, query = ""] = hash.split("?", 2);
  return { view, params: new URLSearchParams(query) };
}

export function address(view, params = {}) {
  const kept = new URLSearchParams();
  const entries = params instanceof URLSearchParams ? params.entries() : Object.entries(params);
  for (const [name, value] of entries)
    if (value !== "" && value !== null && value !== undefined) kept.append(name, value);
  const query = kept.toString();
  return `#${view}${query ? `?${query}` : ""}`;
}

// The address of the same view with some of its parameters changed; what is changed starts its table from the front.
export function changed(changes) {
  const { view, params } = state();
  params.delete("page");
  params.delete("at");
  for (const [name, value] of Object.entries(changes)) {
    if (value === "" || value === null || value === undefined) params.delete(name);
    else params.set(name, value);
  }
  return address(view, params);
}

export function go(hash, { quietly = false } = {}) {
  if (hash === location.hash) return;
  if (quietly) location.replace(hash);
  else location.hash = hash;
}
