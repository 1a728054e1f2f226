# SPDX-License-Identifier: MIT
"""Your own torch training loop: TwoLayerReLU is a module like any other."""

import torch
from torch.nn.functional import cross_entropy

import lmc_fast

torch.manual_seed(0)
data = lmc_fast.digits()

# The same layers, names and start as Sequential(Linear, ReLU, Linear), through the fused op.
net = lmc_fast.TwoLayerReLU(d=64, m=64, c=10)
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)

for _ in range(10):
    for batch in torch.randperm(len(data.x_train)).split(64):
        loss = cross_entropy(net(data.x_train[batch]), data.y_train[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

with torch.no_grad():
    right = net(data.x_test).argmax(dim=1) == data.y_test
print(f"last training loss {loss.item():.4f}")
print(f"test accuracy {right.float().mean():.1%}")
print(f"alive neurons {int(lmc_fast.alive_count(net))} of {net.m}")
