// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrow, Rental, Status, Terms} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";
import {OddToken} from "./mocks/OddToken.sol";
import {ShortPayer} from "./mocks/ShortPayer.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

contract LockTest is Fixture {
    uint256 private constant PERMIT_KEY = 0xA11CE;

    function test_Lock_Erc20() public {
        Terms memory t = _terms();
        bytes32 id = escrow.hashTerms(t);
        vm.expectEmit(address(escrow));
        emit IEscrow.Locked(id, renter, provider, t, DEPOSIT, false);
        assertEq(_lock(t, DEPOSIT), id, "id");
        Rental memory r = escrow.rental(id);
        assertEq(abi.encode(r), abi.encode(Rental(Status.Locked, DEPOSIT, T0, 0, 0, 0, 0, false, false)), "stored");
        _assertBalances(0, 0, DEPOSIT);
    }

    function test_Lock_Native() public {
        Terms memory t = _terms(NATIVE, "native");
        bytes32 id = _lock(t, DEPOSIT);
        assertEq(escrow.rental(id).deposit, DEPOSIT, "deposit");
        assertEq(address(escrow).balance, DEPOSIT, "held");
    }

    function test_MaxUint96() public {
        Terms memory t = _terms();
        t.pricePerHour = type(uint96).max;
        usdc.mint(renter, type(uint96).max);
        bytes32 id = _activate(t, type(uint96).max);
        skip(1 hours);
        vm.prank(renter);
        vm.expectRevert(IEscrow.FundedTimeOver.selector);
        escrow.topUp(t, 1);
        skip(10 minutes + 1);
        _stop(t, stranger);
        _assertStatus(id, Status.None);
        uint256 fee = uint256(type(uint96).max) / 10;
        _assertBalances(type(uint96).max - fee, fee, type(uint96).max);
    }

    function test_Dust() public {
        Terms memory t = _terms();
        bytes32 id = _activate(t, 1);
        // 1 unit does not pay for a second: used up at once, and the minimum of a second takes it.
        skip(10 minutes + 1);
        _stop(t, stranger);
        _assertStatus(id, Status.Closed);
        _assertBalances(1, 0, 1);
    }

    function test_Lock_NotRenter() public {
        Terms memory t = _terms();
        vm.prank(stranger);
        vm.expectRevert(IEscrow.NotRenter.selector);
        escrow.lock(t, DEPOSIT);
    }

    function test_Lock_BadTerms() public {
        Terms memory t = _terms();
        t.provider = address(0);
        _expectLockRevert(t, DEPOSIT, IEscrow.ZeroAddress.selector);
        t.provider = renter;
        _expectLockRevert(t, DEPOSIT, IEscrow.SelfRental.selector);
        t.provider = address(escrow);
        _expectLockRevert(t, DEPOSIT, IEscrow.PayeeIsEscrow.selector);
        t = _terms();
        t.pricePerHour = 0;
        _expectLockRevert(t, DEPOSIT, IEscrow.ZeroPrice.selector);
        _expectLockRevert(_terms(), 0, IEscrow.ZeroAmount.selector);
    }

    function test_Lock_FeeBps_PlusMinusOne() public {
        Terms memory t = _terms();
        t.feeBps = 1501;
        _expectLockRevert(t, DEPOSIT, IEscrow.FeeTooHigh.selector);
        t.feeBps = 1500;
        _lock(t, DEPOSIT);
    }

    function test_Lock_StartBy_PlusMinusOne() public {
        Terms memory t = _terms();
        t.startBy = T0 - 1;
        _expectLockRevert(t, DEPOSIT, IEscrow.StartByOutOfRange.selector);
        t.startBy = T0 + 24 hours + 1;
        _expectLockRevert(t, DEPOSIT, IEscrow.StartByOutOfRange.selector);
        t.startBy = T0 + 24 hours;
        _lock(t, DEPOSIT);
        t.startBy = T0;
        _lock(t, DEPOSIT);
    }

    function test_Lock_Token_NotListed_Paused() public {
        Terms memory t = _terms(address(new OddToken()), "odd");
        _expectLockRevert(t, DEPOSIT, IEscrow.TokenNotListed.selector);
        t = _terms();
        vm.prank(guardian);
        escrow.pauseToken(address(usdc));
        _expectLockRevert(t, DEPOSIT, IEscrow.TokenIsPaused.selector);
        vm.prank(owner);
        escrow.unpauseToken(address(usdc));
        _lock(t, DEPOSIT);
    }

    function test_Lock_Twice() public {
        Terms memory t = _terms();
        bytes32 id = _lock(t, DEPOSIT);
        _expectLockRevert(t, DEPOSIT, IEscrow.IdUsed.selector);
        _start(t, T0);
        _expectLockRevert(t, DEPOSIT, IEscrow.IdUsed.selector);
        _stop(t, renter);
        _assertStatus(id, Status.Closed);
        _expectLockRevert(t, DEPOSIT, IEscrow.IdUsed.selector);
        // Up to the last second of startBy the tombstone forbids it, from the next second on startBy itself.
        vm.warp(t.startBy);
        _expectLockRevert(t, DEPOSIT, IEscrow.IdUsed.selector);
        vm.warp(t.startBy + 1);
        _expectLockRevert(t, DEPOSIT, IEscrow.StartByOutOfRange.selector);
    }

    /// @dev Native coin sent along with ERC-20 would belong to nobody.
    function test_MsgValue_WithErc20() public {
        Terms memory t = _terms();
        vm.startPrank(renter);
        vm.expectRevert(IEscrow.WrongValue.selector);
        escrow.lock{value: 1}(t, DEPOSIT);
        vm.expectRevert(IEscrow.WrongValue.selector);
        escrow.prepay{value: 1}(renter, address(usdc), 1);
        escrow.lock(t, DEPOSIT);
        vm.expectRevert(IEscrow.WrongValue.selector);
        escrow.topUp{value: 1}(t, 1);
        vm.stopPrank();
        assertEq(address(escrow).balance, 0, "none held");
    }

    function test_Lock_MsgValue() public {
        Terms memory t = _terms(NATIVE, "native");
        vm.startPrank(renter);
        vm.expectRevert(IEscrow.WrongValue.selector);
        escrow.lock{value: DEPOSIT - 1}(t, DEPOSIT);
        vm.expectRevert(IEscrow.WrongValue.selector);
        escrow.lock{value: DEPOSIT + 1}(t, DEPOSIT);
        vm.expectRevert(IEscrow.WrongValue.selector);
        escrow.lock(t, DEPOSIT);
        vm.stopPrank();
    }

    function test_Lock_FeeOnTransfer() public {
        (OddToken odd, Terms memory t) = _odd(OddToken.Fault.TakesFee);
        _expectLockRevert(t, DEPOSIT, IEscrow.InexactTransfer.selector);
        assertEq(odd.balanceOf(address(escrow)), 0, "nothing held");
    }

    /// @dev Nor may more come than asked: it would belong to nobody.
    function test_Lock_InexactTransfer() public {
        ShortPayer token = new ShortPayer();
        _list(address(token));
        Terms memory t = _terms(address(token), "short");
        int256[2] memory wrong = [int256(-1), 1];
        for (uint256 i = 0; i < wrong.length; ++i) {
            token.setExcess(wrong[i]);
            _expectLockRevert(t, DEPOSIT, IEscrow.InexactTransfer.selector);
            assertEq(token.balanceOf(address(escrow)), 0, "nothing held");
        }
        token.setExcess(0);
        bytes32 id = _lock(t, DEPOSIT);
        for (uint256 i = 0; i < wrong.length; ++i) {
            token.setExcess(wrong[i]);
            _refused(renter, abi.encodeCall(escrow.topUp, (t, 5)), IEscrow.InexactTransfer.selector);
            bytes memory prepay = abi.encodeCall(escrow.prepay, (renter, address(token), 5));
            _refused(renter, prepay, IEscrow.InexactTransfer.selector);
        }
        assertEq(escrow.rental(id).deposit, DEPOSIT, "as it was");
        assertEq(escrow.balanceOf(renter, address(token)), 0, "no balance");
    }

    function test_Lock_NoReturnValue() public {
        (OddToken odd, Terms memory t) = _odd(OddToken.Fault.ReturnsNothing);
        _activate(t, DEPOSIT);
        skip(100);
        _stop(t, renter);
        assertEq(odd.balanceOf(renter), 1e12 - 100 * PER_SEC, "refund pushed");
    }

    function test_Lock_ReturnsFalse() public {
        (OddToken odd, Terms memory t) = _odd(OddToken.Fault.ReturnsFalse);
        vm.prank(renter);
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(odd)));
        escrow.lock(t, DEPOSIT);
    }

    /// @dev What was a token when listed may be gone.
    function test_Lock_NoCode() public {
        (OddToken odd, Terms memory t) = _odd(OddToken.Fault.None);
        vm.etch(address(odd), "");
        vm.prank(renter);
        vm.expectRevert();
        escrow.lock(t, DEPOSIT);
    }

    function test_LockWithPermit() public {
        Terms memory t = _permitTerms();
        (uint8 v, bytes32 r, bytes32 s) = _permit(t.renter, T0);
        vm.prank(t.renter);
        bytes32 id = escrow.lockWithPermit(t, DEPOSIT, T0, v, r, s);
        _assertStatus(id, Status.Locked);
        assertEq(usdc.allowance(t.renter, address(escrow)), 0, "allowance used");
    }

    function test_Permit_FrontRun_StillLocks() public {
        Terms memory t = _permitTerms();
        (uint8 v, bytes32 r, bytes32 s) = _permit(t.renter, T0);
        vm.prank(stranger);
        usdc.permit(t.renter, address(escrow), DEPOSIT, T0, v, r, s);
        vm.prank(t.renter);
        _assertStatus(escrow.lockWithPermit(t, DEPOSIT, T0, v, r, s), Status.Locked);
    }

    function test_LockWithPermit_Expired_NeedsAllowance() public {
        Terms memory t = _permitTerms();
        (uint8 v, bytes32 r, bytes32 s) = _permit(t.renter, T0 - 1);
        vm.prank(t.renter);
        vm.expectRevert();
        escrow.lockWithPermit(t, DEPOSIT, T0 - 1, v, r, s);
        vm.prank(t.renter);
        usdc.approve(address(escrow), DEPOSIT);
        vm.prank(t.renter);
        escrow.lockWithPermit(t, DEPOSIT, T0 - 1, v, r, s);
    }

    function test_LockWithPermit_Refusals() public {
        Terms memory t = _terms(NATIVE, "native");
        vm.prank(renter);
        vm.expectRevert(IEscrow.NativeToken.selector);
        escrow.lockWithPermit(t, DEPOSIT, T0, 27, 0, 0);
        vm.prank(stranger);
        vm.expectRevert(IEscrow.NotRenter.selector);
        escrow.lockWithPermit(_terms(), DEPOSIT, T0, 27, 0, 0);
        t = _terms(makeAddr("no token"), "unlisted");
        vm.prank(renter);
        vm.expectRevert(IEscrow.TokenNotListed.selector);
        escrow.lockWithPermit(t, DEPOSIT, T0, 27, 0, 0);
    }

    function _odd(OddToken.Fault fault) private returns (OddToken odd, Terms memory t) {
        odd = new OddToken();
        odd.mint(renter, 1e12);
        odd.setFault(fault);
        vm.prank(renter);
        odd.approve(address(escrow), type(uint256).max);
        _list(address(odd));
        t = _terms(address(odd), "odd");
    }

    function _permitTerms() private returns (Terms memory t) {
        t = _terms();
        t.renter = vm.addr(PERMIT_KEY);
        usdc.mint(t.renter, DEPOSIT);
    }

    function _permit(address from, uint256 deadline) private view returns (uint8, bytes32, bytes32) {
        bytes32 typehash =
            keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        bytes32 permit =
            keccak256(abi.encode(typehash, from, address(escrow), uint256(DEPOSIT), usdc.nonces(from), deadline));
        return vm.sign(PERMIT_KEY, keccak256(abi.encodePacked("\x19\x01", usdc.DOMAIN_SEPARATOR(), permit)));
    }

    function _expectLockRevert(Terms memory t, uint96 deposit, bytes4 error_) private {
        vm.prank(renter);
        vm.expectRevert(error_);
        escrow.lock(t, deposit);
    }
}
