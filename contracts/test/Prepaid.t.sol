// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrow, PrepaidItem, Rental, Status, Terms} from "../src/IEscrow.sol";
import {Signing} from "./Signing.sol";

/// @notice Balances paid in beforehand, and rentals locked from them.
contract PrepaidTest is Signing {
    function test_Prepay_ForAnyone() public {
        vm.expectEmit(address(escrow));
        emit IEscrow.Prepaid(stranger, address(usdc), renter, 500);
        _prepay(stranger, address(usdc), 500);
        _prepay(stranger, NATIVE, 7);
        assertEq(escrow.balanceOf(stranger, address(usdc)), 500, "ERC-20");
        assertEq(escrow.balanceOf(stranger, NATIVE), 7, "native");
        assertEq(usdc.balanceOf(renter), 1e12 - 500, "from the caller");
        vm.prank(stranger);
        escrow.withdraw(address(usdc), stranger, 0);
        assertEq(usdc.balanceOf(stranger), 500, "withdrawn");
    }

    function test_Prepay_Refusals() public {
        address token = address(usdc);
        _refused(renter, abi.encodeCall(escrow.prepay, (address(0), token, 1)), IEscrow.ZeroAddress.selector);
        _refused(renter, abi.encodeCall(escrow.prepay, (address(escrow), token, 1)), IEscrow.PayeeIsEscrow.selector);
        _refused(renter, abi.encodeCall(escrow.prepay, (renter, token, 0)), IEscrow.ZeroAmount.selector);
        _refused(renter, abi.encodeCall(escrow.prepay, (renter, stranger, 1)), IEscrow.TokenNotListed.selector);
        _refused(renter, abi.encodeCall(escrow.prepay, (renter, NATIVE, 1)), IEscrow.WrongValue.selector);
        vm.prank(renter);
        vm.expectRevert(IEscrow.WrongValue.selector);
        escrow.prepay{value: 2}(renter, NATIVE, 1);
        vm.prank(guardian);
        escrow.pauseToken(token);
        _refused(renter, abi.encodeCall(escrow.prepay, (renter, token, 1)), IEscrow.TokenIsPaused.selector);
        assertEq(usdc.balanceOf(renter), 1e12, "nothing moved");
    }

    function test_LockPrepaid_ByTheRenter() public {
        Terms memory t = _terms();
        _prepay(renter, address(usdc), DEPOSIT + 5);
        bytes32 id = escrow.hashTerms(t);
        vm.expectEmit(address(escrow));
        emit IEscrow.Locked(id, renter, provider, t, DEPOSIT, true);
        vm.prank(renter);
        assertEq(escrow.lockPrepaid(t, DEPOSIT, ""), id, "id");
        assertEq(
            abi.encode(escrow.rental(id)),
            abi.encode(Rental(Status.Locked, DEPOSIT, T0, 0, 0, 0, 0, false, false)),
            "stored"
        );
        assertEq(escrow.balanceOf(renter, address(usdc)), 5, "the rest");
        assertEq(usdc.balanceOf(address(escrow)), DEPOSIT + 5, "nothing moved");
    }

    function test_LockPrepaid_SentByAnyone() public {
        Terms memory t = _terms();
        _prepay(renter, address(usdc), DEPOSIT);
        bytes memory signature = _signature(_key("renter"), _prepaidDigest(t, DEPOSIT));
        vm.prank(stranger);
        _assertStatus(escrow.lockPrepaid(t, DEPOSIT, signature), Status.Locked);
        assertEq(escrow.balanceOf(renter, address(usdc)), 0, "paid");
    }

    /// @dev The refund of a prepaid rental goes where that of any other goes.
    function test_LockPrepaid_WholeLife() public {
        Terms memory t = _terms(NATIVE, "native");
        _prepay(renter, NATIVE, DEPOSIT);
        vm.prank(renter);
        escrow.lockPrepaid(t, DEPOSIT, "");
        _start(t, T0);
        skip(1000);
        _close(t, T0 + 1000, 0);
        assertEq(renter.balance, 1e24 - 1_000_000, "refund");
        assertEq(escrow.balanceOf(provider, NATIVE), 900_000, "provider");
        assertEq(escrow.balanceOf(treasury, NATIVE), 100_000, "treasury");
        assertEq(escrow.balanceOf(renter, NATIVE), 0, "no credit");
    }

    function test_LockPrepaid_Unsigned() public {
        Terms memory t = _terms();
        _prepay(renter, address(usdc), DEPOSIT);
        address[4] memory others = [owner, operator, provider, stranger];
        for (uint256 i = 0; i < others.length; ++i) {
            _refused(others[i], abi.encodeCall(escrow.lockPrepaid, (t, DEPOSIT, "")), IEscrow.BadSignature.selector);
        }
        // A signature that is there must be good, even the renter's own.
        _refused(renter, abi.encodeCall(escrow.lockPrepaid, (t, DEPOSIT, "0")), IEscrow.BadSignature.selector);
    }

    /// @dev The relayer can change no field, and not the deposit.
    function testFuzz_LockPrepaid_OtherTerms(uint256 which, uint256 delta) public {
        Terms memory t = _terms();
        _prepay(renter, address(usdc), 2 * DEPOSIT);
        bytes memory signature = _signature(_key("renter"), _prepaidDigest(t, DEPOSIT));
        Terms memory other = _change(t, which % 8, delta);
        vm.prank(stranger);
        (bool success,) = address(escrow).call(abi.encodeCall(escrow.lockPrepaid, (other, DEPOSIT, signature)));
        assertFalse(success, "other terms");
        uint96 deposit = uint96(bound(delta, 1, 2 * DEPOSIT));
        if (deposit == DEPOSIT) ++deposit;
        bytes memory input = abi.encodeCall(escrow.lockPrepaid, (t, deposit, signature));
        _refused(stranger, input, IEscrow.BadSignature.selector);
        assertEq(escrow.balanceOf(renter, address(usdc)), 2 * DEPOSIT, "balance");
    }

    function test_LockPrepaid_InsufficientBalance_PlusMinusOne() public {
        Terms memory t = _terms();
        bytes memory input = abi.encodeCall(escrow.lockPrepaid, (t, DEPOSIT, ""));
        _refused(renter, input, IEscrow.InsufficientBalance.selector);
        _prepay(renter, address(usdc), DEPOSIT - 1);
        // Other accounts' balances and other tokens do not count.
        _prepay(stranger, address(usdc), DEPOSIT);
        _prepay(renter, NATIVE, DEPOSIT);
        _refused(renter, input, IEscrow.InsufficientBalance.selector);
        _prepay(renter, address(usdc), 1);
        vm.prank(renter);
        escrow.lockPrepaid(t, DEPOSIT, "");
    }

    function test_LockPrepaid_Replayed() public {
        Terms memory t = _terms();
        _prepay(renter, address(usdc), 3 * DEPOSIT);
        bytes memory signature = _signature(_key("renter"), _prepaidDigest(t, DEPOSIT));
        bytes memory input = abi.encodeCall(escrow.lockPrepaid, (t, DEPOSIT, signature));
        escrow.lockPrepaid(t, DEPOSIT, signature);
        _refused(stranger, input, IEscrow.IdUsed.selector);
        vm.prank(provider);
        escrow.cancel(t);
        _refused(stranger, input, IEscrow.IdUsed.selector);
        vm.warp(t.startBy + 1);
        _refused(stranger, input, IEscrow.StartByOutOfRange.selector);
        assertEq(escrow.balanceOf(renter, address(usdc)), 2 * DEPOSIT, "taken once");
    }

    /// @dev The same refusals as of `lock`.
    function test_LockPrepaid_Refusals() public {
        _prepay(renter, address(usdc), DEPOSIT);
        Terms memory t = _terms();
        t.renter = address(0);
        _refusedByRenter(t, DEPOSIT, IEscrow.ZeroAddress.selector);
        t = _terms();
        t.provider = address(0);
        _refusedByRenter(t, DEPOSIT, IEscrow.ZeroAddress.selector);
        t.provider = renter;
        _refusedByRenter(t, DEPOSIT, IEscrow.SelfRental.selector);
        t.provider = address(escrow);
        _refusedByRenter(t, DEPOSIT, IEscrow.PayeeIsEscrow.selector);
        t = _terms();
        t.pricePerHour = 0;
        _refusedByRenter(t, DEPOSIT, IEscrow.ZeroPrice.selector);
        t = _terms();
        t.feeBps = 1501;
        _refusedByRenter(t, DEPOSIT, IEscrow.FeeTooHigh.selector);
        t = _terms();
        t.startBy = T0 - 1;
        _refusedByRenter(t, DEPOSIT, IEscrow.StartByOutOfRange.selector);
        t.startBy = T0 + 24 hours + 1;
        _refusedByRenter(t, DEPOSIT, IEscrow.StartByOutOfRange.selector);
        _refusedByRenter(_terms(), 0, IEscrow.ZeroAmount.selector);
        _refusedByRenter(_terms(stranger, "unlisted"), DEPOSIT, IEscrow.TokenNotListed.selector);
        vm.prank(guardian);
        escrow.pauseToken(address(usdc));
        _refusedByRenter(_terms(), DEPOSIT, IEscrow.TokenIsPaused.selector);
    }

    function test_LockBatch_StaleSkipped_DuplicateLockedOnce() public {
        _prepay(renter, address(usdc), 2 * DEPOSIT);
        PrepaidItem[] memory items = new PrepaidItem[](6);
        for (uint256 i = 0; i < items.length; ++i) {
            Terms memory t = _terms(address(usdc), bytes32(i));
            items[i] = PrepaidItem(t, DEPOSIT, _signature(_key("renter"), _prepaidDigest(t, DEPOSIT)));
        }
        items[1] = items[0];
        items[2].deposit = DEPOSIT - 1;
        items[3].terms.feeBps = 1501;
        // The sixth finds the balance used up.
        bytes4[6] memory reasons = [
            bytes4(0),
            IEscrow.IdUsed.selector,
            IEscrow.BadSignature.selector,
            IEscrow.FeeTooHigh.selector,
            bytes4(0),
            IEscrow.InsufficientBalance.selector
        ];
        for (uint256 i = 0; i < items.length; ++i) {
            bytes32 id = escrow.hashTerms(items[i].terms);
            vm.expectEmit(address(escrow));
            if (reasons[i] == 0) emit IEscrow.Locked(id, renter, provider, items[i].terms, DEPOSIT, true);
            else emit IEscrow.Skipped(id, reasons[i]);
        }
        vm.prank(stranger);
        escrow.lockBatch(items);
        assertEq(escrow.balanceOf(renter, address(usdc)), 0, "two deposits");
        _assertStatus(escrow.hashTerms(items[2].terms), Status.None);
    }

    /// @dev In a batch, too, the renter need not sign what it sends itself.
    function test_LockBatch_ByTheRenter() public {
        _prepay(renter, address(usdc), DEPOSIT);
        PrepaidItem[] memory items = new PrepaidItem[](1);
        items[0] = PrepaidItem(_terms(), DEPOSIT, "");
        bytes32 id = escrow.hashTerms(items[0].terms);
        vm.expectEmit(address(escrow));
        emit IEscrow.Skipped(id, IEscrow.BadSignature.selector);
        vm.prank(stranger);
        escrow.lockBatch(items);
        vm.prank(renter);
        escrow.lockBatch(items);
        _assertStatus(id, Status.Locked);
    }

    function _refusedByRenter(Terms memory t, uint96 deposit, bytes4 error_) private {
        _refused(renter, abi.encodeCall(escrow.lockPrepaid, (t, deposit, "")), error_);
    }
}
