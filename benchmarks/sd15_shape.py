"""Writes the configurations of Stable Diffusion 1.5, without weights, for `limbeck doctor`: `python benchmarks/sd15_shape.py OUT`."""

import json
import sys
from pathlib import Path

from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig

UNET = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4, "latent_channels": 4,
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 512, "scaling_factor": 0.18215,
}  # fmt: skip
TEXT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "vocab_size": 49408,
}


def main() -> None:
    import torch

    out = Path(sys.argv[1])
    with torch.device("meta"):
        UNet2DConditionModel(**UNET).save_config(out / "unet")
        AutoencoderKL(**VAE).save_config(out / "vae")
    PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    ).save_config(out / "scheduler")
    CLIPTextConfig(**TEXT, max_position_embeddings=77).save_pretrained(out / "text_encoder")
    kinds = {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    kinds |= {"scheduler": ["diffusers", "PNDMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"]}
    (out / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", **kinds}))


if __name__ == "__main__":
    main()
