"""The methods as plain functions: they need torch and nothing of compressit."""


def round_weights(model, threshold):
    """Rounds the weights of every layer in place; gives each layer's scale by name."""
    scales = {}
    for name, weight in model.named_parameters():
        if weight.ndim > 1:  # biases and norms stay
            size = weight.detach().abs()
            kept = size > threshold * size.mean()
            scales[name] = float(size[kept].mean()) if kept.any() else 0.0
            weight.data = scales[name] * weight.detach().sign() * kept
    return scales


def bits_per_weight(model):
    """Entropy of the values of each layer's weights, averaged over all weights."""
    layers = [weight.detach() for weight in model.parameters() if weight.ndim > 1]
    shares = [layer.unique(return_counts=True)[1] / layer.numel() for layer in layers]
    bits = sum(-layer.numel() * float((p * p.log2()).sum()) for layer, p in zip(layers, shares, strict=True))
    return bits / sum(layer.numel() for layer in layers)
