() => {
  // Class and probability under the pointer. Each picture of classes, #first and #second, has a hidden picture of
  // values: red is the class, green 255 times its probability (samseg/demo/classes.py).
  const label = document.createElement("div");
  label.id = "under";
  label.hidden = true;
  document.body.append(label);
  const read = {}; // by picture: what its values are

  function valuesOf(id) {
    const image = document.querySelector(`#${id}-values img`);
    if (!image || !image.naturalWidth) return null;
    if (read[id]?.source !== image.src) {
      const canvas = document.createElement("canvas");
      const { naturalWidth: width, naturalHeight: height } = image;
      Object.assign(canvas, { width, height });
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(image, 0, 0);
      read[id] = { source: image.src, context, width, height, names: JSON.parse(image.dataset.names) };
    }
    return read[id];
  }

  // Where a point of the page lies in a picture, as shares of its width and height: it may be shown with a margin.
  function placeIn(image, x, y) {
    const box = image.getBoundingClientRect();
    const shrink = Math.min(box.width / image.naturalWidth, box.height / image.naturalHeight);
    const [width, height] = [image.naturalWidth * shrink, image.naturalHeight * shrink];
    return [(x - box.left - (box.width - width) / 2) / width, (y - box.top - (box.height - height) / 2) / height];
  }

  document.addEventListener("pointermove", (event) => {
    const picture = event.target.closest?.("#first, #second");
    const image = picture?.querySelector("img");
    const values = image?.naturalWidth ? valuesOf(picture.id) : null;
    const [x, y] = values ? placeIn(image, event.clientX, event.clientY) : [-1, -1];
    label.hidden = !(x >= 0 && x < 1 && y >= 0 && y < 1);
    if (label.hidden) return;
    const pixel = (width, height) => [Math.floor(x * width), Math.floor(y * height)];
    const [red, green] = values.context.getImageData(...pixel(values.width, values.height), 1, 1).data;
    const at = pixel(image.naturalWidth, image.naturalHeight).join(", ");
    label.textContent = `(${at}): ${values.names[red]}, probability ${(green / 255).toFixed(2)}`;
    const right = event.clientX + 16 + label.offsetWidth > innerWidth;
    label.style.left = `${right ? Math.max(0, event.clientX - 16 - label.offsetWidth) : event.clientX + 16}px`;
    label.style.top = `${Math.max(0, event.clientY - 34)}px`;
  });
}
