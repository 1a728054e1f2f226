# SPDX-License-Identifier: MIT
"""Merge two of your trained networks: match their neurons, then average their weights."""

import torch
from torch import nn

import lmc_fast

data = lmc_fast.digits()


def trained(seed: int) -> nn.Sequential:
    """A plain torch network, trained with torch alone."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(20):
        for batch in torch.randperm(len(data.x_train)).split(64):
            loss = nn.functional.cross_entropy(net(data.x_train[batch]), data.y_train[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net


def accuracy(net: nn.Module) -> float:
    """Share of the test digits that are read right."""
    with torch.no_grad():
        return float((net(data.x_test).argmax(dim=1) == data.y_test).float().mean())


a, b = trained(seed=0), trained(seed=1)
weights_a, weights_b = lmc_fast.as_weights(a), lmc_fast.as_weights(b)

# perm says which neuron of b goes with each neuron of a; apply reorders b to stand opposite them.
matching = lmc_fast.match(a, b, cost="weights")
reordered_b = matching.apply(b)

naive = lmc_fast.TwoLayerReLU.from_weights(weights_a.at(weights_b, 0.5))
matched = lmc_fast.TwoLayerReLU.from_weights(weights_a.at(reordered_b, 0.5))

print(f"accuracy of a               {accuracy(a):.1%}")
print(f"accuracy of b               {accuracy(b):.1%}")
print(f"accuracy of naive average   {accuracy(naive):.1%}")
print(f"accuracy of matched average {accuracy(matched):.1%}")
