// Predict before you look: the weights stay covered until the visitor has said where a token looks.

const TALLY = "lab.tally";
const game = { on: false, guessed: null, tally: kept() }; // guessed: a key's place, null while it is asked

function kept() { // right, and all, of this visit; a page from a file may not be allowed to keep it
  try {
    return JSON.parse(sessionStorage.getItem(TALLY)) ?? [0, 0];
  } catch {
    return [0, 0];
  }
}

function count(right) {
  game.tally = [game.tally[0] + right, game.tally[1] + 1];
  try { sessionStorage.setItem(TALLY, JSON.stringify(game.tally)); } catch { /* then until it is closed */ }
}

const covered = () => game.on && game.guessed === null;

// The start and the end of a sentence are no words to guess.
const isWord = (piece) => ![START, END].includes(piece);
const guessable = (keys) => keys.map((_, s) => s).filter((s) => isWord(keys[s]));
const askable = () => isWord(labels().queries[state.query]) && guessable(labels().keys).length > 0;

// The word that looks most at one word: the first to look at.
function telling() {
  const { queries, keys } = labels();
  const content = (pieces) => range(pieces.length).filter((i) => isWord(pieces[i]) && /\p{Script=Han}|\p{L}{3}/u.test(pieces[i]));
  const most = (t) => highest(content(keys).map((s) => rowOf(picture().values, t)[s]));
  return content(queries).reduce((best, t) => (best === null || most(t) > most(best) ? t : best), null) ?? 0;
}

function guess(s) {
  const { keys } = labels();
  const row = rowOf(picture().values, state.query);
  const best = guessable(keys).reduce((most, each) => // what is shown alike is alike
    (shareSaid(row[each]) !== shareSaid(row[most]) && row[each] > row[most] ? each : most), s);
  Object.assign(game, { guessed: s, best });
  count(Number(best === s));
  draw();
  $(".guess").focus();
}

function guessSaid(queries, keys, row) {
  const token = readable(queries[state.query]);
  if (game.guessed === null) {
    return say(askable() ? "translate.guess_which" : "translate.guess_none", { token });
  }
  const { guessed, best } = game;
  const values = { token, guessed: readable(keys[guessed]), share: shareSaid(row[guessed]) };
  if (best === guessed) return say("translate.guess_right", values);
  return say("translate.guess_wrong", { ...values, best: readable(keys[best]), most: shareSaid(row[best]) });
}

function drawGame() {
  const [right, all] = game.tally;
  $(".guess").setAttribute("aria-pressed", game.on);
  $(".tally").textContent = all ? say("translate.tally", { right, all }) : "";
  for (const each of [".pictures", ".numbers"]) $(each).hidden = covered();
}
