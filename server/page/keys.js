// The API key, where the server wants one: for this tab and as long as it is open, nowhere else.

const NAME = "asr-key";

// Storage may be forbidden altogether; then the key is asked for after every reload.
let here = "";
try {
  here = sessionStorage.getItem(NAME) ?? "";
} catch {}

export const key = () => here;

export function keep(entered) {
  here = entered.trim();
  try {
    if (here) sessionStorage.setItem(NAME, here);
    else sessionStorage.removeItem(NAME);
  } catch {}
}
