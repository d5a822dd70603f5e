"""First values of the parameters, a pure function of the seed.

Call on the CPU, before the network moves to its device: then every device starts equal.
"""

import torch
from torch import nn

from s3d.models.blocks import LEAK, ResidualBlock

TOKEN_SPREAD = 0.02
"""Standard deviation of a fresh mask token, and the bound it is cut at."""


def initialize_for_training(network: nn.Module, seed: int) -> None:
    """He's normal values for leaky ReLU, biases 0, the last norm before each residual sum 0 (method.md section 1).

    For networks that learn to segment; transferred weights are loaded over these.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
            nn.init.kaiming_normal_(module.weight, a=LEAK, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.InstanceNorm3d):
            module.reset_parameters()
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.conv2.norm.weight)


def initialize_for_pretraining(network: nn.Module, seed: int) -> None:
    """torch's own uniform values, mask tokens from a cut normal (method.md sections 1 and 3)."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for module in network.modules():
            if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d, nn.InstanceNorm3d)):
                module.reset_parameters()
            elif isinstance(module, nn.ParameterList):
                for token in module:
                    initialize_token(token)


def initialize_token(token: nn.Parameter) -> nn.Parameter:
    """Fill a mask token with fresh values and return it."""
    nn.init.trunc_normal_(token, std=TOKEN_SPREAD, a=-TOKEN_SPREAD, b=TOKEN_SPREAD)
    return token
