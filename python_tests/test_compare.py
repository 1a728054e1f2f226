# SPDX-License-Identifier: MIT
import pytest
import torch
from compare import assert_close


def test_accepts_equal_and_within_tolerance():
    assert_close(
        torch.tensor([1.0, torch.nan, torch.inf]), torch.tensor([1.0, torch.nan, torch.inf]), 0
    )
    assert_close(1.0 + 1e-9, 1.0, 1e-9 * (1 + 1e-6))
    assert_close(torch.empty(0, 3), torch.empty(0, 3), 0)


@pytest.mark.parametrize(
    ("got", "want"),
    [(1.0, 1.1), (torch.nan, 1.0), (1.0, torch.nan), (torch.inf, 1.0), (torch.inf, -torch.inf)],
)
def test_rejects_what_differs(got, want):
    with pytest.raises(AssertionError):
        assert_close(got, want, 1e-3)


def test_rejects_another_shape():
    with pytest.raises(AssertionError, match="shape"):
        assert_close(torch.zeros(2, 1), torch.zeros(2), 1.0)


def test_names_the_worst_entry_and_the_share_of_the_tolerance():
    got = torch.tensor([[1.0, 2.0], [3.0, 4.4]])
    want = torch.tensor([[1.0, 2.0], [3.2, 4.0]])
    with pytest.raises(AssertionError, match=r"worst at \(1, 1\).* 4 times.*2 of 4 entries"):
        assert_close(got, want, 0.1)
