"""Which seeds are for what, so that nothing is tested on what it was trained or chosen by."""

TRAINING = 0  # ... 999,999,999
VALIDATION = 1_000_000_000  # thresholds and choices
TEST = 2_100_000_000  # reported figures only; 2,000,000,000 ... was looked at when zone I's rule was made
REFERENCE = 2_500_000_000  # what a new model must not have forgotten (training.compare_models)
REPLAY = 2_600_000_000  # added to a training set so that the model does not forget
USER = 3_000_000_000  # `pediscreen phantom --seed n` draws from USER + n * 1,000,000
USER_STRIDE = 1_000_000
