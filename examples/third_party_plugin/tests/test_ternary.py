from compressit.testing import parametrize


@parametrize("quantize.ternary", "eval.entropy", "model.normed")
def test_conforms(check):
    check()
