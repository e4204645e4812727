"""Codes chosen by a layer's output: against bitsandbytes' own packing, and against rounding to the nearest."""

import numpy as np
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit

from engine.inference.four_bit import NF4_BLOCK
from training import calibrated_nf4

ROWS, COLS = 48, 192


@pytest.fixture
def weight():
    return torch.randn(ROWS, COLS, generator=torch.Generator().manual_seed(3)).to(torch.bfloat16)


def nearest(weight):
    return quantize_4bit(weight, blocksize=NF4_BLOCK, compress_statistics=True, quant_type="nf4")


def test_inputs_without_correlation_ask_for_the_nearest_values_as_bitsandbytes_packs_them(weight):
    codes, state = nearest(weight)
    ours = calibrated_nf4.packed(weight.float(), torch.eye(COLS), state)
    apart = [(ours >> 4) != (codes >> 4), (ours & 15) != (codes & 15)]
    assert ours.shape == codes.shape and ours.dtype == codes.dtype
    # bitsandbytes rounds with the block's scale before that is itself quantised
    assert sum(int(a.sum()) for a in apart) < 0.02 * weight.numel()


def test_what_the_layer_says_of_correlated_inputs_changes_much_less(weight):
    rng = np.random.default_rng(5)
    inputs = torch.tensor(rng.normal(size=(4000, 30)) @ rng.normal(size=(30, COLS))).float()
    inputs += 0.05 * torch.tensor(rng.normal(size=inputs.shape)).float()
    shown, held_out = inputs[:2000], inputs[2000:]
    codes, state = nearest(weight)
    ours = calibrated_nf4.packed(weight.float(), shown.T @ shown / len(shown), state)
    lost = [
        (held_out @ (dequantize_4bit(packed, state).float() - weight.float()).T).square().mean().item()
        for packed in (codes, ours)
    ]
    assert lost[1] < 0.3 * lost[0]


def test_no_single_code_change_in_a_rows_last_column_would_be_better(weight):
    """The last column has nothing behind it to make up for its error, so its code must be the best there is."""
    rng = np.random.default_rng(6)
    inputs = torch.tensor(rng.normal(size=(500, COLS)) @ rng.normal(size=(COLS, COLS))).double()
    moment = (inputs.T @ inputs / len(inputs)).float()
    _, state = nearest(weight)
    ours = calibrated_nf4.packed(weight.float(), moment, state)

    def error(packed, row):
        apart = (dequantize_4bit(packed, state).float() - weight.float())[row].double()
        damped = moment.double() + calibrated_nf4.DAMPING * moment.diagonal().mean() * torch.eye(COLS)
        return (apart @ damped @ apart).item()

    for row in range(0, ROWS, 7):
        place = (row + 1) * COLS // 2 - 1  # of the row's last byte; the last column is its lower half
        kept = error(ours, row)
        for code in range(16):
            other = ours.clone()
            other[place] = (other[place] & 0xF0) | code
            assert error(other, row) >= kept - 1e-4 * kept
