"""The least that each ratio of the benchmarks should be. Where one is missed, the processor or a bound says why."""

TARGETS = {
    "search, all stages frozen, over skorch": 40,
    "search, all stages frozen, over a PyTorch loop": 12,
    "search over three depths, over skorch": 7,
    "search over three depths, over a PyTorch loop": 1.92,  # 0.9 of the bound
    "image features, ResNet-18, over embetter": 5,
    "image features, ResNet-18, over a PyTorch loop": 1.2,
    "forward pass, ResNet-18, of a matrix product's rate": 0.5,
    "forward pass, ViT-B, of a matrix product's rate": 0.45,
    "text features, MiniLM, over sentence-transformers": 2.5,
    "text features, MiniLM, over skrub": 2.5,
    "reading a cache folder, of 400 MB/s": 1,
    "features from a warm cache, over decoding the images": 1,
    "search with a warm cache, over the first search": 5,
    "import, of 0.1 s": 1,
    "one prediction, default network, of the bare forward pass": 0.25,
    "one prediction, ResNet-18, of the bare forward pass": 0.25,
    "search with two Dask workers, over one": 1.54,
}
FLOAT32 = "bfloat16 is 2.09 times as fast as float32 there, which bounds the gain over a peer that wastes nothing"
MISSED = {
    "search over three depths, over skorch": "the bound on that processor is 5.39",
    "image features, ResNet-18, over embetter": FLOAT32,
    "image features, ResNet-18, over a PyTorch loop": "the loop runs at the rate of a matrix product there",
    "text features, MiniLM, over sentence-transformers": FLOAT32,
    "text features, MiniLM, over skrub": FLOAT32,
}
