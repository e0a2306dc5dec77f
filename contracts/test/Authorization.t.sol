// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrow, Status, Terms} from "../src/IEscrow.sol";
import {Signing} from "./Signing.sol";
import {OddToken} from "./mocks/OddToken.sol";
import {ShortPayer} from "./mocks/ShortPayer.sol";
import {SigningWallet} from "./mocks/SigningWallet.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";

/// @notice `lockWithAuthorization`: the deposit comes by EIP-3009, and whoever sends it can change nothing.
contract AuthorizationTest is Signing {
    string private constant RECEIVE_TYPE =
        "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)";
    uint40 private constant BEFORE = T0 + 1 hours;

    function test_LockWithAuthorization_SentByAnyone() public {
        Terms memory t = _terms();
        bytes memory signature = _authorize(t, DEPOSIT, _key("renter"));
        bytes32 id = escrow.hashTerms(t);
        vm.expectEmit(address(escrow));
        emit IEscrow.Locked(id, renter, provider, t, DEPOSIT, false);
        vm.prank(stranger);
        assertEq(escrow.lockWithAuthorization(t, DEPOSIT, 0, BEFORE, signature), id, "id");
        assertEq(escrow.rental(id).deposit, DEPOSIT, "deposit");
        assertEq(usdc.balanceOf(renter), 1e12 - DEPOSIT, "paid by the renter");
        _assertBalances(0, 0, DEPOSIT);
    }

    /// @dev The relayer has a signature over one rental: for terms that differ in any field, or another deposit, it is
    /// worth nothing.
    function testFuzz_LockWithAuthorization_OtherTerms(uint256 which, uint256 delta) public {
        Terms memory t = _terms();
        bytes memory signature = _authorize(t, DEPOSIT, _key("renter"));
        Terms memory other = _change(t, which % 8, delta);
        vm.prank(stranger);
        (bool success,) = address(escrow).call(_call(other, DEPOSIT, BEFORE, signature));
        assertFalse(success, "other terms");
        _assertNothingMoved(t);
        _assertNothingMoved(other);
        vm.prank(stranger);
        escrow.lockWithAuthorization(t, DEPOSIT, 0, BEFORE, signature);
    }

    function test_3009_NonceBoundToId() public {
        Terms memory t = _terms();
        // Each of these is well signed, but for another nonce, deposit, time or receiver.
        bytes32 id = escrow.hashTerms(t);
        bytes[] memory wrong = new bytes[](5);
        wrong[0] = _authorizeAs(t.renter, address(escrow), DEPOSIT, 0, BEFORE, bytes32(0));
        wrong[1] = _authorizeAs(t.renter, address(escrow), DEPOSIT, 0, BEFORE, t.orderHash);
        wrong[2] = _authorizeAs(t.renter, address(escrow), DEPOSIT - 1, 0, BEFORE, id);
        wrong[3] = _authorizeAs(t.renter, address(escrow), DEPOSIT, 0, BEFORE + 1, id);
        wrong[4] = _authorizeAs(t.renter, stranger, DEPOSIT, 0, BEFORE, id);
        for (uint256 i = 0; i < wrong.length; ++i) {
            _refused(stranger, _call(t, DEPOSIT, BEFORE, wrong[i]), ERC3009.ERC3009InvalidSignature.selector);
        }
        _assertNothingMoved(t);
        bytes memory right = _authorizeAs(t.renter, address(escrow), DEPOSIT, 0, BEFORE, id);
        escrow.lockWithAuthorization(t, DEPOSIT, 0, BEFORE, right);
        assertTrue(usdc.authorizationState(renter, id), "the id is the nonce");
    }

    /// @dev Only the payee can use the authorization: nobody can spend it without the rental being locked.
    function test_LockWithAuthorization_CannotBeFrontRun() public {
        Terms memory t = _terms();
        bytes32 id = escrow.hashTerms(t);
        bytes memory signature = _authorize(t, DEPOSIT, _key("renter"));
        vm.prank(stranger);
        vm.expectRevert();
        usdc.receiveWithAuthorization(renter, address(escrow), DEPOSIT, 0, BEFORE, id, signature);
        escrow.lockWithAuthorization(t, DEPOSIT, 0, BEFORE, signature);
    }

    function test_LockWithAuthorization_Replayed() public {
        Terms memory t = _terms();
        bytes memory signature = _authorize(t, DEPOSIT, _key("renter"));
        escrow.lockWithAuthorization(t, DEPOSIT, 0, BEFORE, signature);
        _refused(stranger, _call(t, DEPOSIT, BEFORE, signature), IEscrow.IdUsed.selector);
        vm.prank(provider);
        escrow.cancel(t);
        _refused(stranger, _call(t, DEPOSIT, BEFORE, signature), IEscrow.IdUsed.selector);
        assertEq(usdc.balanceOf(renter), 1e12, "taken once, given back once");
    }

    function test_LockWithAuthorization_Time_PlusMinusOne() public {
        Terms memory t = _terms();
        bytes32 id = escrow.hashTerms(t);
        // validAfter and validBefore both exclude their own second.
        bytes memory late = _authorizeAs(renter, address(escrow), DEPOSIT, 0, T0, id);
        vm.expectRevert();
        escrow.lockWithAuthorization(t, DEPOSIT, 0, T0, late);
        bytes memory early = _authorizeAs(renter, address(escrow), DEPOSIT, T0, BEFORE, id);
        vm.expectRevert();
        escrow.lockWithAuthorization(t, DEPOSIT, T0, BEFORE, early);
        bytes memory right = _authorizeAs(renter, address(escrow), DEPOSIT, T0 - 1, T0 + 1, id);
        escrow.lockWithAuthorization(t, DEPOSIT, T0 - 1, T0 + 1, right);
    }

    function test_LockWithAuthorization_AnotherKey() public {
        Terms memory t = _terms();
        bytes memory signature = _authorize(t, DEPOSIT, _key("stranger"));
        _refused(stranger, _call(t, DEPOSIT, BEFORE, signature), ERC3009.ERC3009InvalidSignature.selector);
        _assertNothingMoved(t);
    }

    /// @dev v of 0 or 1, a high s, zeros: what the token does not take, the escrow does not.
    function test_LockWithAuthorization_Malleable() public {
        Terms memory t = _terms();
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(_key("renter"), _receiveDigest(t, DEPOSIT));
        bytes[] memory wrong = new bytes[](4);
        wrong[0] = abi.encodePacked(r, s, v - 27);
        wrong[1] = abi.encodePacked(r, bytes32(CURVE_ORDER - uint256(s)), v == 27 ? 28 : 27);
        wrong[2] = new bytes(65);
        wrong[3] = abi.encodePacked(r, s, v, uint8(0));
        for (uint256 i = 0; i < wrong.length; ++i) {
            vm.expectRevert();
            escrow.lockWithAuthorization(t, DEPOSIT, 0, BEFORE, wrong[i]);
        }
        _assertNothingMoved(t);
    }

    /// @dev A smart wallet's signature is not 65 bytes: it goes to the token as it is.
    function test_LockWithAuthorization_SmartWallet() public {
        SigningWallet wallet = new SigningWallet(vm.addr(_key("renter")));
        Terms memory t = _terms();
        t.renter = address(wallet);
        usdc.mint(address(wallet), DEPOSIT);
        bytes memory padded = bytes.concat(_authorize(t, DEPOSIT, _key("renter")), "");
        vm.mockCall(
            address(wallet),
            abi.encodeWithSignature("isValidSignature(bytes32,bytes)", _receiveDigest(t, DEPOSIT), hex"c0ffee"),
            abi.encode(bytes4(0x1626ba7e))
        );
        vm.prank(stranger);
        vm.expectRevert();
        escrow.lockWithAuthorization(t, DEPOSIT, 0, BEFORE, padded);
        escrow.lockWithAuthorization(t, DEPOSIT, 0, BEFORE, hex"c0ffee");
        assertEq(usdc.balanceOf(address(wallet)), 0, "paid by the wallet");
    }

    function test_LockWithAuthorization_Refusals() public {
        Terms memory t = _terms(NATIVE, "native");
        _refused(stranger, _call(t, DEPOSIT, BEFORE, new bytes(65)), IEscrow.NativeToken.selector);
        t = _terms();
        _refused(stranger, _call(t, 0, BEFORE, new bytes(65)), IEscrow.ZeroAmount.selector);
        t.provider = renter;
        _refused(stranger, _call(t, DEPOSIT, BEFORE, new bytes(65)), IEscrow.SelfRental.selector);
        t = _terms(makeAddr("no token"), "unlisted");
        _refused(stranger, _call(t, DEPOSIT, BEFORE, new bytes(65)), IEscrow.TokenNotListed.selector);
        // A token without EIP-3009.
        OddToken odd = new OddToken();
        odd.mint(renter, DEPOSIT);
        vm.prank(renter);
        odd.approve(address(escrow), DEPOSIT);
        _list(address(odd));
        t = _terms(address(odd), "odd");
        vm.expectRevert();
        escrow.lockWithAuthorization(t, DEPOSIT, 0, BEFORE, new bytes(65));
        assertEq(odd.balanceOf(renter), DEPOSIT, "nothing moved");
    }

    function test_LockWithAuthorization_NotEnough() public {
        Terms memory t = _terms();
        uint96 much = 1e12 + 1;
        bytes memory signature = _authorize(t, much, _key("renter"));
        vm.expectRevert();
        escrow.lockWithAuthorization(t, much, 0, BEFORE, signature);
        _assertNothingMoved(t);
    }

    /// @dev What a token says that it moved is not enough, nor more than that.
    function test_LockWithAuthorization_Inexact() public {
        ShortPayer token = new ShortPayer();
        _list(address(token));
        Terms memory t = _terms(address(token), "short");
        int256[2] memory wrong = [int256(-1), 1];
        for (uint256 i = 0; i < wrong.length; ++i) {
            token.setExcess(wrong[i]);
            _refused(stranger, _call(t, DEPOSIT, BEFORE, new bytes(65)), IEscrow.InexactTransfer.selector);
            _refused(stranger, _call(t, DEPOSIT, BEFORE, "another"), IEscrow.InexactTransfer.selector);
        }
        token.setExcess(0);
        escrow.lockWithAuthorization(t, DEPOSIT, 0, BEFORE, new bytes(65));
        assertEq(IERC20(address(token)).balanceOf(address(escrow)), DEPOSIT, "exact");
    }

    function _call(
        Terms memory t,
        uint96 deposit,
        uint256 validBefore,
        bytes memory signature
    )
        private
        view
        returns (bytes memory)
    {
        return abi.encodeCall(escrow.lockWithAuthorization, (t, deposit, 0, validBefore, signature));
    }

    function _assertNothingMoved(Terms memory t) private view {
        _assertStatus(escrow.hashTerms(t), Status.None);
        assertEq(usdc.balanceOf(renter), 1e12, "renter");
        _assertBalances(0, 0, 0);
    }

    function _authorize(Terms memory t, uint96 deposit, uint256 key) private view returns (bytes memory) {
        return _signature(key, _receiveDigest(t, deposit));
    }

    function _receiveDigest(Terms memory t, uint96 deposit) private view returns (bytes32) {
        return _receiveDigest(t.renter, address(escrow), deposit, 0, BEFORE, escrow.hashTerms(t));
    }

    /// @dev Signed by the renter.
    function _authorizeAs(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce
    )
        private
        returns (bytes memory)
    {
        return _signature(_key("renter"), _receiveDigest(from, to, value, validAfter, validBefore, nonce));
    }

    function _receiveDigest(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce
    )
        private
        view
        returns (bytes32)
    {
        bytes memory encoded = abi.encode(from, to, value, validAfter, validBefore, nonce);
        return _typedIn(usdc.DOMAIN_SEPARATOR(), RECEIVE_TYPE, encoded);
    }
}
