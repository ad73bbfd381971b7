"use strict";
// One scrubbed frame player per film: frames are data URIs in a JSON block beside it.
for (const film of document.querySelectorAll(".film[data-rate]")) {
  const frames = JSON.parse(film.querySelector("script").textContent);
  const [image, slider, button, time] = ["img", "input", "button", "output"].map((name) => film.querySelector(name));
  const rate = Number(film.dataset.rate);
  let timer = 0;
  const show = (index) => {
    slider.value = index;
    image.src = frames[index];
    time.textContent = (index / rate).toFixed(1) + " s";
  };
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    button.textContent = "Play";
  };
  const play = () => {
    timer = setInterval(() => show((Number(slider.value) + 1) % frames.length), 1000 / rate);
    button.textContent = "Pause";
  };
  button.addEventListener("click", () => (timer ? stop() : play()));
  slider.addEventListener("input", () => {
    stop();
    show(Number(slider.value));
  });
  film.querySelector(".player").hidden = false;
  show(0);
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) play();
}
