"""Serve pictures to a network that export_onnx wrote, without torch: labels out, and limits on what comes in.

pip install fastapi numpy onnxruntime pillow python-multipart uvicorn
MODEL=model.onnx uvicorn --app-dir examples 03_serve:app
curl -F pictures=@one.jpg -F pictures=@two.png http://127.0.0.1:8000/predict
"""

import contextlib
import io
import json
import os

import numpy as np
import onnxruntime
from fastapi import FastAPI, HTTPException, Request, UploadFile
from fastapi.responses import JSONResponse
from PIL import Image, ImageOps

MOST_PICTURES, MOST_BYTES, MOST_PIXELS, LONGEST_ASPECT = 16, 5_000_000, 25_000_000, 20


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI):
    app.state.session = onnxruntime.InferenceSession(os.environ["MODEL"], providers=["CPUExecutionProvider"])
    app.state.about = json.loads(app.state.session.get_modelmeta().custom_metadata_map["skltransfer"])
    yield


app = FastAPI(lifespan=lifespan)


@app.middleware("http")
async def refuse_large_bodies(request: Request, call_next):
    length = request.headers.get("content-length", "0" if request.method == "GET" else "unknown")
    if not length.isdecimal() or int(length) > MOST_PICTURES * MOST_BYTES:  # told by the header, before it is read
        return JSONResponse({"detail": f"at most {MOST_PICTURES * MOST_BYTES} bytes; got {length}"}, status_code=413)
    return await call_next(request)


def pixels_of(content: bytes, how: dict) -> np.ndarray:
    """A picture as the file's description asks for it, (side, side, 3) of uint8."""
    image = Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP"))
    if image.width * image.height > MOST_PIXELS or max(image.size) > LONGEST_ASPECT * min(image.size):
        raise ValueError(f"{image.width} x {image.height} px is too large, or too long")
    image.draft(None, (how["draft"], how["draft"]))
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, how["background"])
        image = Image.alpha_composite(paper, image.convert("RGBA"))
    image = image.convert(how["mode"])
    size = [how["resize"] if how["squash"] else int(how["resize"] * side / min(image.size)) for side in image.size]
    image = image.resize(size, Image.Resampling[how["interpolation"].upper()])
    left, top = (round((side - how["crop"]) / 2) for side in size)
    return np.asarray(image.crop((left, top, left + how["crop"], top + how["crop"])))


@app.post("/predict")
def predict(pictures: list[UploadFile]) -> list[dict]:
    contents = [picture.file.read(MOST_BYTES + 1) for picture in pictures[: MOST_PICTURES + 1]]
    if len(contents) > MOST_PICTURES or max(map(len, contents)) > MOST_BYTES:
        raise HTTPException(413, f"at most {MOST_PICTURES} pictures of at most {MOST_BYTES} bytes")
    about, rows = app.state.about, []
    for i, content in enumerate(contents):
        try:
            rows.append(pixels_of(content, about["preprocessing"]))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise HTTPException(422, f"picture {i} cannot be read: {error}") from error
    (probabilities,) = app.state.session.run(["probabilities"], {"pixels": np.stack(rows)})
    classes = about["outputs"]["probabilities"]["classes"]
    return [{"class": classes[row.argmax()], "probability": float(row.max())} for row in probabilities]
