// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrow, Status, Terms} from "../src/IEscrow.sol";
import {IPermit2} from "../src/IPermit2.sol";
import {Permitting} from "./Permitting.sol";
import {ShortPayer} from "./mocks/ShortPayer.sol";
import {SigningWallet} from "./mocks/SigningWallet.sol";

/// @notice `lockWithPermit2`, against Permit2's own code at its own address.
contract Permit2Test is Permitting {
    error InvalidNonce();
    error InvalidSigner();
    error SignatureExpired(uint256 signatureDeadline);

    uint40 private constant UNTIL = T0 + 1 hours;

    function setUp() public override {
        super.setUp();
        _deployPermit2();
        vm.prank(renter);
        usdc.approve(address(PERMIT2), type(uint256).max);
    }

    function test_LockWithPermit2_SentByAnyone() public {
        Terms memory t = _terms();
        bytes memory signature = _signature(_key("renter"), _permitDigest(t, DEPOSIT, 7, UNTIL));
        bytes32 id = escrow.hashTerms(t);
        vm.expectEmit(address(escrow));
        emit IEscrow.Locked(id, renter, provider, t, DEPOSIT, false);
        vm.prank(stranger);
        assertEq(escrow.lockWithPermit2(t, DEPOSIT, 7, UNTIL, signature), id, "id");
        assertEq(usdc.balanceOf(renter), 1e12 - DEPOSIT, "paid by the renter");
        _assertBalances(0, 0, DEPOSIT);
    }

    function test_LockWithPermit2_Compact() public {
        Terms memory t = _terms();
        escrow.lockWithPermit2(t, DEPOSIT, 0, UNTIL, _compact(_key("renter"), _permitDigest(t, DEPOSIT, 0, UNTIL)));
        _assertStatus(escrow.hashTerms(t), Status.Locked);
    }

    /// @dev The witness is the terms: with a signature over some, no others can be locked, whatever the field.
    function testFuzz_LockWithPermit2_OtherTerms(uint256 which, uint256 delta) public {
        Terms memory t = _terms();
        bytes memory signature = _signature(_key("renter"), _permitDigest(t, DEPOSIT, 0, UNTIL));
        Terms memory other = _change(t, which % 8, delta);
        vm.prank(stranger);
        (bool success,) = address(escrow).call(_call(other, DEPOSIT, 0, UNTIL, signature));
        assertFalse(success, "other terms");
        _assertNothingMoved(t);
        _assertNothingMoved(other);
        escrow.lockWithPermit2(t, DEPOSIT, 0, UNTIL, signature);
    }

    function test_LockWithPermit2_AnotherDepositNonceOrDeadline() public {
        Terms memory t = _terms();
        bytes memory signature = _signature(_key("renter"), _permitDigest(t, DEPOSIT, 0, UNTIL));
        _refused(stranger, _call(t, DEPOSIT + 1, 0, UNTIL, signature), InvalidSigner.selector);
        _refused(stranger, _call(t, DEPOSIT - 1, 0, UNTIL, signature), InvalidSigner.selector);
        _refused(stranger, _call(t, DEPOSIT, 1, UNTIL, signature), InvalidSigner.selector);
        _refused(stranger, _call(t, DEPOSIT, 0, UNTIL + 1, signature), InvalidSigner.selector);
        _assertNothingMoved(t);
    }

    function test_LockWithPermit2_AnotherKey() public {
        Terms memory t = _terms();
        bytes memory signature = _signature(_key("stranger"), _permitDigest(t, DEPOSIT, 0, UNTIL));
        _refused(stranger, _call(t, DEPOSIT, 0, UNTIL, signature), InvalidSigner.selector);
        _assertNothingMoved(t);
    }

    /// @dev Signed for another spender than the escrow: Permit2 counts its caller.
    function test_LockWithPermit2_OtherSpender() public {
        Terms memory t = _terms();
        bytes32 digest = _permitDigest(stranger, t, DEPOSIT, 0, UNTIL);
        bytes memory signature = _signature(_key("renter"), digest);
        _refused(stranger, _call(t, DEPOSIT, 0, UNTIL, signature), InvalidSigner.selector);
        // And nobody else can use what was signed for the escrow.
        signature = _signature(_key("renter"), _permitDigest(t, DEPOSIT, 0, UNTIL));
        bytes32 witness = vm.eip712HashStruct(TERMS_TYPE, abi.encode(t));
        vm.prank(stranger);
        vm.expectRevert(InvalidSigner.selector);
        PERMIT2.permitWitnessTransferFrom(
            IPermit2.PermitTransferFrom(IPermit2.TokenPermissions(address(usdc), DEPOSIT), 0, UNTIL),
            IPermit2.SignatureTransferDetails(stranger, DEPOSIT),
            renter,
            witness,
            string.concat("Terms witness)", TERMS_TYPE, "TokenPermissions(address token,uint256 amount)"),
            signature
        );
    }

    function test_LockWithPermit2_Deadline_PlusMinusOne() public {
        Terms memory t = _terms();
        bytes memory signature = _signature(_key("renter"), _permitDigest(t, DEPOSIT, 0, T0 - 1));
        vm.expectRevert(abi.encodeWithSelector(SignatureExpired.selector, T0 - 1));
        escrow.lockWithPermit2(t, DEPOSIT, 0, T0 - 1, signature);
        signature = _signature(_key("renter"), _permitDigest(t, DEPOSIT, 0, T0));
        escrow.lockWithPermit2(t, DEPOSIT, 0, T0, signature);
    }

    function test_LockWithPermit2_Replayed() public {
        Terms memory t = _terms();
        bytes memory signature = _signature(_key("renter"), _permitDigest(t, DEPOSIT, 0, UNTIL));
        escrow.lockWithPermit2(t, DEPOSIT, 0, UNTIL, signature);
        _refused(stranger, _call(t, DEPOSIT, 0, UNTIL, signature), IEscrow.IdUsed.selector);
        // Other terms with the same nonce.
        t = _terms(address(usdc), "second");
        signature = _signature(_key("renter"), _permitDigest(t, DEPOSIT, 0, UNTIL));
        _refused(stranger, _call(t, DEPOSIT, 0, UNTIL, signature), InvalidNonce.selector);
        _assertStatus(escrow.hashTerms(t), Status.None);
        _assertBalances(0, 0, DEPOSIT);
    }

    function test_LockWithPermit2_OtherChain() public {
        Terms memory t = _terms();
        uint64 here = uint64(block.chainid);
        vm.chainId(80_002);
        bytes memory signature = _signature(_key("renter"), _permitDigest(t, DEPOSIT, 0, UNTIL));
        vm.chainId(here);
        _refused(stranger, _call(t, DEPOSIT, 0, UNTIL, signature), InvalidSigner.selector);
    }

    function test_LockWithPermit2_SmartWallet() public {
        SigningWallet wallet = new SigningWallet(renter);
        usdc.mint(address(wallet), DEPOSIT);
        wallet.run(address(usdc), 0, abi.encodeCall(usdc.approve, (address(PERMIT2), DEPOSIT)));
        Terms memory t = _terms();
        t.renter = address(wallet);
        bytes memory signature = _signature(_key("renter"), _permitDigest(t, DEPOSIT, 0, UNTIL));
        escrow.lockWithPermit2(t, DEPOSIT, 0, UNTIL, signature);
        assertEq(usdc.balanceOf(address(wallet)), 0, "paid by the wallet");
        _assertBalances(0, 0, DEPOSIT);
    }

    function test_LockWithPermit2_WithoutAllowance() public {
        vm.prank(renter);
        usdc.approve(address(PERMIT2), DEPOSIT - 1);
        Terms memory t = _terms();
        bytes memory signature = _signature(_key("renter"), _permitDigest(t, DEPOSIT, 0, UNTIL));
        vm.expectRevert("TRANSFER_FROM_FAILED");
        escrow.lockWithPermit2(t, DEPOSIT, 0, UNTIL, signature);
        _assertNothingMoved(t);
    }

    function test_LockWithPermit2_Inexact() public {
        ShortPayer token = new ShortPayer();
        _list(address(token));
        Terms memory t = _terms(address(token), "short");
        bytes memory signature = _signature(_key("renter"), _permitDigest(t, DEPOSIT, 0, UNTIL));
        int256[2] memory wrong = [int256(-1), 1];
        for (uint256 i = 0; i < wrong.length; ++i) {
            token.setExcess(wrong[i]);
            _refused(stranger, _call(t, DEPOSIT, 0, UNTIL, signature), IEscrow.InexactTransfer.selector);
        }
        token.setExcess(0);
        escrow.lockWithPermit2(t, DEPOSIT, 0, UNTIL, signature);
    }

    function test_LockWithPermit2_Refusals() public {
        Terms memory t = _terms(NATIVE, "native");
        _refused(stranger, _call(t, DEPOSIT, 0, UNTIL, new bytes(65)), IEscrow.NativeToken.selector);
        t = _terms();
        _refused(stranger, _call(t, 0, 0, UNTIL, new bytes(65)), IEscrow.ZeroAmount.selector);
        t.feeBps = 1501;
        _refused(stranger, _call(t, DEPOSIT, 0, UNTIL, new bytes(65)), IEscrow.FeeTooHigh.selector);
        vm.prank(guardian);
        escrow.pauseToken(address(usdc));
        _refused(stranger, _call(_terms(), DEPOSIT, 0, UNTIL, new bytes(65)), IEscrow.TokenIsPaused.selector);
    }

    /// @dev Where there is no Permit2 nothing is locked.
    function test_LockWithPermit2_NoCode() public {
        vm.etch(address(PERMIT2), "");
        Terms memory t = _terms();
        vm.expectRevert();
        escrow.lockWithPermit2(t, DEPOSIT, 0, UNTIL, new bytes(65));
        _assertNothingMoved(t);
    }

    function _call(
        Terms memory t,
        uint96 deposit,
        uint256 nonce,
        uint256 deadline,
        bytes memory signature
    )
        private
        view
        returns (bytes memory)
    {
        return abi.encodeCall(escrow.lockWithPermit2, (t, deposit, nonce, deadline, signature));
    }

    function _assertNothingMoved(Terms memory t) private view {
        _assertStatus(escrow.hashTerms(t), Status.None);
        assertEq(usdc.balanceOf(renter), 1e12, "renter");
        _assertBalances(0, 0, 0);
    }
}
