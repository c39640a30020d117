"""Small text-to-image pipelines of the form of Stable Diffusion, with random weights: for training on a CPU, and for tests."""

from collections.abc import Sequence
from typing import Any

import torch

from limbeck.errors import ConfigError
from limbeck.methods.generative.diffusion.logging_off import diffusers

__all__ = ["small_pipeline", "small_tokenizer"]

SPREAD = -6.0  # of the posterior at first: the logarithm of its variance


def small_tokenizer(captions: Sequence[str], vocabulary: int = 4096, length: int = 32) -> Any:
    """A tokenizer of the kind that Stable Diffusion has: pieces of words, of captions in lower case.

    Args:
        captions: what the pieces are learned from; rare words are spelled.
        vocabulary: pieces, at most.
        length: tokens that are read of a text.

    Example:
        >>> small_tokenizer(["a red square", "a red disc"]).tokenize("A red square")
        ['a</w>', 'red</w>', 'square</w>']
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    made = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    made.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_words(), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=max(vocabulary, 2 * len(bytes_) + 2),
        end_of_word_suffix="</w>",
        initial_alphabet=bytes_,
        show_progress=False,
    )
    made.train_from_iterator(captions, trainer)
    learned = _model(made)
    pieces = dict.fromkeys(
        [*bytes_, *(f"{b}</w>" for b in bytes_), *sorted(learned["vocab"], key=learned["vocab"].get)]
    )
    whole = [*pieces, "<|startoftext|>", "<|endoftext|>"]
    merges: Any = [tuple(pair) if not isinstance(pair, str) else tuple(pair.split(" ")) for pair in learned["merges"]]
    return CLIPTokenizer(vocab={piece: i for i, piece in enumerate(whole)}, merges=merges, model_max_length=length)


def small_pipeline(
    captions: Sequence[str],
    resolution: int = 32,
    channels: tuple[int, ...] = (64, 96),
    text_width: int = 64,
    text_layers: int = 2,
    vae_channels: tuple[int, ...] = (16, 32, 32),
    length: int = 32,
    prediction: str = "epsilon",
    seed: int = 0,
) -> Any:
    """A `StableDiffusionPipeline` with random weights.

    Args:
        captions: what its tokenizer is made from.
        resolution: pixels a side.
        channels: of the U-Net at each size of latents; all have cross-attention.
        text_width, text_layers: of the text encoder.
        vae_channels: of the VAE at each size of images; every one but the first halves the side.
        length: tokens that are read of a caption.
        prediction: what the denoiser predicts: epsilon, v_prediction or sample.
        seed: of the weights.

    Raises:
        ConfigError: a resolution that cannot be halved as often as that.
        MissingDependency: diffusers is not installed.

    Paper: Rombach et al., High-resolution image synthesis with latent diffusion models, CVPR 2022.

    Example:
        >>> pipe = small_pipeline(["a red square"], resolution=16, channels=(8, 8), text_width=8)
        >>> type(pipe).__name__
        'StableDiffusionPipeline'
    """
    d = diffusers()
    from transformers import CLIPTextConfig, CLIPTextModel

    from limbeck.spaces.hub import quiet

    halvings = len(vae_channels) + len(channels) - 2
    if resolution % 2**halvings:
        raise ConfigError(
            f"images of {resolution} pixels cannot be halved {halvings} times; choose a multiple of {2**halvings}, or fewer channels"
        )
    if uneven := [c for c in (*channels, *vae_channels, text_width) if c % 8]:
        raise ConfigError(f"channels and widths are multiples of 8, got {uneven[0]}")
    tokenizer = small_tokenizer(captions, length=length)
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    words = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=text_width, intermediate_size=2 * text_width, num_hidden_layers=text_layers,
        num_attention_heads=next(h for h in range(max(text_width // 32, 1), 0, -1) if text_width % h == 0), max_position_embeddings=length, projection_dim=text_width,
        bos_token_id=start, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        vae = d.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * len(vae_channels), up_block_types=("UpDecoderBlock2D",) * len(vae_channels),
            block_out_channels=vae_channels, latent_channels=4, norm_num_groups=8, sample_size=resolution,
            mid_block_add_attention=False,
        )  # fmt: skip
        with torch.no_grad():
            vae.quant_conv.bias[4:] = SPREAD  # else the decoder sees little but noise at first, and learns slowly
        unet = d.UNet2DConditionModel(
            sample_size=resolution // 2 ** (len(vae_channels) - 1), in_channels=4, out_channels=4, layers_per_block=1,
            block_out_channels=channels, down_block_types=("CrossAttnDownBlock2D",) * len(channels),
            up_block_types=("CrossAttnUpBlock2D",) * len(channels), cross_attention_dim=text_width, attention_head_dim=8,
            norm_num_groups=8,
        )  # fmt: skip
        schedule = d.DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
            steps_offset=1, prediction_type=prediction,
        )  # fmt: skip
        pipe = d.StableDiffusionPipeline(
            vae=vae, unet=unet, text_encoder=CLIPTextModel(words), tokenizer=tokenizer, scheduler=schedule, safety_checker=None,
            feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _words() -> Any:
    """How CLIP cuts a text: runs of letters, single digits, runs of other signs."""
    from tokenizers import Regex

    return Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")


def _model(tokenizer: Any) -> dict[str, Any]:
    import json

    return json.loads(tokenizer.to_str())["model"]  # type: ignore[no-any-return]
