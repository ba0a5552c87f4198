// Turning and zooming by keys and buttons; the address keeps the direction of view.

import { state, writeAddress } from "./state.js";

const $ = (id) => document.getElementById(id);

export function navigate(scene, isShown) {
  const draw = () => scene.render();
  const home = () => { scene.home(); state.view = null; writeAddress(); };
  const keys = {
    ArrowLeft: () => scene.turn(-10, "y"), ArrowRight: () => scene.turn(10, "y"), ArrowUp: () => scene.turn(-10, "x"),
    ArrowDown: () => scene.turn(10, "x"), "+": () => scene.zoom(1.15), "=": () => scene.zoom(1.15), "-": () => scene.zoom(1 / 1.15), 0: home,
  };
  $("view").addEventListener("keydown", (event) => {
    const act = keys[event.key];
    if (!act || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    act();
    draw();
  });
  $("home").addEventListener("click", home);
  $("nearer").addEventListener("click", () => { scene.zoom(1.25); draw(); });
  $("farther").addEventListener("click", () => { scene.zoom(0.8); draw(); });
  $("spin").addEventListener("click", () => {
    const on = $("spin").getAttribute("aria-pressed") !== "true";
    $("spin").setAttribute("aria-pressed", on);
    scene.spin(on);
  });
  if (!document.fullscreenEnabled) $("full").hidden = true;
  $("full").addEventListener("click", () => (document.fullscreenElement ? document.exitFullscreen() : $("stage").requestFullscreen()));
  let timer = null;
  for (const name of ["pointerup", "wheel", "keyup", "touchend"]) {
    $("stage").addEventListener(name, () => { // the address keeps the direction of view
      clearTimeout(timer);
      timer = setTimeout(() => {
        if (!isShown() || !scene.start) return;
        const moved = scene.position.some((x, i) => Math.abs(x - scene.start[i]) > 1e-3);
        state.view = moved ? scene.position : null;
        writeAddress();
      }, 300);
    }, { passive: true });
  }
}
