// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {CloseItem, EndSignatures, IEscrow, Status, Terms} from "../src/IEscrow.sol";
import {Signing} from "./Signing.sol";
import {SigningWallet} from "./mocks/SigningWallet.sol";

/// @notice Who signed, and what: the three kinds of signature that move money, each in every bad form.
contract SignaturesTest is Signing {
    uint256 private constant DEADLINE = T0 + 1 hours;

    function setUp() public override {
        super.setUp();
        _prepay(renter, address(usdc), DEPOSIT);
    }

    function test_Sig_ReplayOtherChain() public {
        Terms memory t = _terms();
        bytes32[3] memory domains =
            [_domainOf(1, address(escrow)), _domainOf(80_002, address(escrow)), _domainOf(0, address(escrow))];
        for (uint256 i = 0; i < domains.length; ++i) {
            _refusedLock(t, _signature(_key("renter"), _prepaidDigestIn(domains[i], t, DEPOSIT)));
        }
        uint64 here = uint64(block.chainid);
        vm.chainId(1);
        bytes memory withdrawal = _signature(_key("renter"), _digest(renter));
        vm.chainId(here);
        _refusedWithdrawal(renter, withdrawal);
    }

    function test_Sig_OtherContract() public {
        Terms memory t = _terms();
        address other = address(_newEscrow(_config()));
        _refusedLock(t, _signature(_key("renter"), _prepaidDigestIn(_domainOf(block.chainid, other), t, DEPOSIT)));
        bytes32 noDomain = vm.eip712HashStruct(
            string.concat("PrepaidLock(Terms terms,uint96 deposit)", TERMS_TYPE), abi.encode(t, DEPOSIT)
        );
        _refusedLock(t, _signature(_key("renter"), noDomain));
    }

    /// @dev After a fork of the chain the other branch has other digests: nothing is cached, nothing replayed.
    function test_Sig_AfterFork() public {
        Terms memory t = _terms();
        bytes memory signature = _signature(_key("renter"), _prepaidDigest(t, DEPOSIT));
        bytes memory withdrawal = _signature(_key("renter"), _digest(renter));
        bytes32 id = escrow.hashTerms(t);
        uint64 here = uint64(block.chainid);
        vm.chainId(80_002);
        assertEq(escrow.domainSeparator(), _domainOf(80_002, address(escrow)), "separator");
        assertEq(escrow.hashTerms(t), id, "rentals are found");
        _refusedLock(t, signature);
        _refusedWithdrawal(renter, withdrawal);
        vm.chainId(here);
        assertEq(escrow.domainSeparator(), _domainOf(here, address(escrow)), "back");
        escrow.lockPrepaid(t, DEPOSIT, signature);
    }

    function test_Sig_HighS() public {
        Terms memory t = _terms();
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(_key("renter"), _prepaidDigest(t, DEPOSIT));
        bytes memory twin = abi.encodePacked(r, bytes32(CURVE_ORDER - uint256(s)), v == 27 ? uint8(28) : uint8(27));
        (address signer) =
            ecrecover(_prepaidDigest(t, DEPOSIT), v == 27 ? 28 : 27, r, bytes32(CURVE_ORDER - uint256(s)));
        assertEq(signer, renter, "the twin recovers to the same key");
        _refusedLock(t, twin);
        escrow.lockPrepaid(t, DEPOSIT, abi.encodePacked(r, s, v));
    }

    function test_Sig_65and64Bytes() public {
        Terms memory t = _terms();
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(_key("renter"), _prepaidDigest(t, DEPOSIT));
        bytes memory compact = _compact(_key("renter"), _prepaidDigest(t, DEPOSIT));
        assertEq(compact.length, 64, "ERC-2098");
        bytes[] memory wrong = new bytes[](8);
        wrong[0] = abi.encodePacked(r, s);
        wrong[0][32] ^= 0x80;
        // Either v, as bit 255 of s, but one is the right one.
        if (keccak256(wrong[0]) == keccak256(compact)) wrong[0][32] ^= 0x80;
        wrong[1] = abi.encodePacked(r, s, uint8(v - 27));
        wrong[2] = abi.encodePacked(r, s, uint8(55 - v));
        wrong[3] = abi.encodePacked(r, s, v, v);
        wrong[4] = abi.encodePacked(r, s, uint8(29));
        wrong[5] = abi.encodePacked(s, r, v);
        wrong[6] = bytes.concat(compact, hex"0000");
        wrong[7] = "";
        for (uint256 i = 0; i < wrong.length; ++i) {
            _refusedLock(t, wrong[i]);
        }
        uint256 before = vm.snapshotState();
        escrow.lockPrepaid(t, DEPOSIT, abi.encodePacked(r, s, v));
        vm.revertToState(before);
        escrow.lockPrepaid(t, DEPOSIT, compact);
    }

    /// @dev What no key made recovers to address 0, which is nobody.
    function test_Sig_ZeroSigner() public {
        Terms memory t = _terms();
        bytes[] memory empties = new bytes[](3);
        empties[0] = new bytes(65);
        empties[1] = new bytes(64);
        empties[2] = abi.encodePacked(bytes32(0), bytes32(0), uint8(27));
        for (uint256 i = 0; i < empties.length; ++i) {
            _refusedLock(t, empties[i]);
            _refusedWithdrawal(renter, empties[i]);
            _refusedWithdrawal(address(0), empties[i]);
            Terms memory nobodys = _terms();
            nobodys.renter = address(0);
            bytes memory input = abi.encodeCall(escrow.lockPrepaid, (nobodys, DEPOSIT, empties[i]));
            _refused(stranger, input, IEscrow.ZeroAddress.selector);
        }
        // Nor is address 0 the agent of an account that has none.
        _activate(t, DEPOSIT);
        vm.prank(operator);
        vm.expectRevert(IEscrow.BadSignature.selector);
        escrow.close(t, T0, 0, EndSignatures(empties[0], ""));
    }

    function test_Sig_1271_Wallet() public {
        (SigningWallet wallet, Terms memory t) = _walletTerms("wallet");
        bytes memory signature = _signature(_key("renter"), _prepaidDigest(t, DEPOSIT));
        _refusedLock(t, _signature(_key("stranger"), _prepaidDigest(t, DEPOSIT)));
        uint256 before = vm.snapshotState();
        escrow.lockPrepaid(t, DEPOSIT, signature);
        _assertStatus(escrow.hashTerms(t), Status.Locked);
        vm.revertToState(before);
        escrow.withdrawBySig(
            address(wallet), address(usdc), stranger, 1, DEADLINE, _signature(_key("renter"), _digest(address(wallet)))
        );
        assertEq(usdc.balanceOf(stranger), 1, "withdrawn");
    }

    /// @dev A wallet's answer counts if it is the whole word, and nothing else that it does.
    function test_Sig_1271_Reverting() public {
        (SigningWallet wallet, Terms memory t) = _walletTerms("wallet");
        bytes memory signature = _signature(_key("renter"), _prepaidDigest(t, DEPOSIT));
        SigningWallet.Manner[7] memory manners = [
            SigningWallet.Manner.Refuses,
            SigningWallet.Manner.Reverts,
            SigningWallet.Manner.RevertsMegabyte,
            SigningWallet.Manner.ReturnsMegabyte,
            SigningWallet.Manner.ReturnsShort,
            SigningWallet.Manner.ReturnsDirty,
            SigningWallet.Manner.BurnsGas
        ];
        for (uint256 i = 0; i < manners.length; ++i) {
            wallet.setManner(manners[i]);
            uint256 gas = gasleft();
            _refusedLock(t, signature);
            assertLt(gas - gasleft(), 200_000, "bounded gas");
        }
        wallet.setManner(SigningWallet.Manner.Answers);
        escrow.lockPrepaid(t, DEPOSIT, signature);
    }

    function test_Sig_1271_GasBound() public {
        (SigningWallet wallet, Terms memory t) = _walletTerms("wallet");
        bytes memory signature = _signature(_key("renter"), _prepaidDigest(t, DEPOSIT));
        wallet.setGas(100_500);
        _refusedLock(t, signature);
        wallet.setGas(95_000);
        escrow.lockPrepaid(t, DEPOSIT, signature);
    }

    /// @dev An account with delegated code (EIP-7702) signs with its key as before, whatever that code says; and with
    /// what that code takes.
    function test_Sig_7702_EcdsaFirst() public {
        SigningWallet code = new SigningWallet(stranger);
        vm.etch(renter, abi.encodePacked(hex"ef0100", address(code)));
        assertEq(renter.code.length, 23, "delegated");
        assertEq(SigningWallet(payable(renter)).OWNER(), stranger, "to that code");
        Terms memory t = _terms();
        uint256 before = vm.snapshotState();
        escrow.lockPrepaid(t, DEPOSIT, _signature(_key("renter"), _prepaidDigest(t, DEPOSIT)));
        vm.revertToState(before);
        escrow.lockPrepaid(t, DEPOSIT, _compact(_key("renter"), _prepaidDigest(t, DEPOSIT)));
        vm.revertToState(before);
        escrow.lockPrepaid(t, DEPOSIT, _signature(_key("stranger"), _prepaidDigest(t, DEPOSIT)));
        vm.revertToState(before);
        _refusedLock(t, _signature(_key("provider"), _prepaidDigest(t, DEPOSIT)));
        vm.etch(renter, "");
        _refusedLock(t, _signature(_key("stranger"), _prepaidDigest(t, DEPOSIT)));
    }

    /// @dev What one owner signed for one wallet is nothing to the other: the account is part of what is signed.
    function test_Sig_TwoWalletsOneOwner() public {
        (SigningWallet first, Terms memory t) = _walletTerms("first");
        (SigningWallet second, Terms memory other) = _walletTerms("second");
        other.orderHash = t.orderHash;
        bytes memory signature = _signature(_key("renter"), _prepaidDigest(t, DEPOSIT));
        _refusedLock(other, signature);
        _refusedWithdrawal(address(second), _signature(_key("renter"), _digest(address(first))));
        // Nor is it to the owner.
        Terms memory own = _terms(address(usdc), t.orderHash);
        _refusedLock(own, signature);
        escrow.lockPrepaid(t, DEPOSIT, signature);
        assertEq(escrow.balanceOf(address(second), address(usdc)), DEPOSIT, "untouched");
    }

    function test_Sig_Expired() public {
        bytes memory withdrawal = _signature(_key("renter"), _digest(renter));
        Terms memory t = _terms();
        bytes memory signature = _signature(_key("renter"), _prepaidDigest(t, DEPOSIT));
        vm.warp(t.startBy + 1);
        bytes memory input = abi.encodeCall(escrow.lockPrepaid, (t, DEPOSIT, signature));
        _refused(stranger, input, IEscrow.StartByOutOfRange.selector);
        vm.warp(DEADLINE + 1);
        input = abi.encodeCall(escrow.withdrawBySig, (renter, address(usdc), stranger, 1, DEADLINE, withdrawal));
        _refused(stranger, input, IEscrow.SignatureExpired.selector);
        vm.warp(DEADLINE);
        escrow.withdrawBySig(renter, address(usdc), stranger, 1, DEADLINE, withdrawal);
    }

    /// @dev In a batch a bad signature holds up nobody else.
    function test_Sig_Bad_SkipsTheItem() public {
        CloseItem[] memory items = new CloseItem[](3);
        EndSignatures[] memory signatures = new EndSignatures[](3);
        for (uint256 i = 0; i < items.length; ++i) {
            items[i] = CloseItem(_terms(address(usdc), bytes32(i)), T0, 0);
            _activate(items[i].terms, DEPOSIT);
        }
        signatures[0].renter = _signature(_key("renter"), _endDigest(items[0].terms, T0, 0));
        signatures[1].renter = _signature(_key("renter"), _endDigest(items[0].terms, T0, 0));
        bytes32 second = escrow.hashTerms(items[1].terms);
        vm.expectEmit(address(escrow));
        emit IEscrow.Skipped(second, IEscrow.BadSignature.selector);
        vm.prank(operator);
        escrow.closeBatch(items, signatures);
        _assertStatus(second, Status.Active);
        _assertStatus(escrow.hashTerms(items[2].terms), Status.Closed);
    }

    function _digest(address account) private view returns (bytes32) {
        return _withdrawalDigest(account, address(usdc), stranger, 1, 0, DEADLINE);
    }

    function _refusedLock(Terms memory t, bytes memory signature) private {
        uint256 had = escrow.balanceOf(t.renter, t.token);
        bytes memory input = abi.encodeCall(escrow.lockPrepaid, (t, DEPOSIT, signature));
        _refused(stranger, input, IEscrow.BadSignature.selector);
        assertEq(escrow.balanceOf(t.renter, t.token), had, "balance");
    }

    function _refusedWithdrawal(address account, bytes memory signature) private {
        uint256 had = escrow.balanceOf(account, address(usdc));
        bytes memory input =
            abi.encodeCall(escrow.withdrawBySig, (account, address(usdc), stranger, 1, DEADLINE, signature));
        _refused(stranger, input, IEscrow.BadSignature.selector);
        assertEq(escrow.balanceOf(account, address(usdc)), had, "balance");
        assertEq(escrow.nonces(account), 0, "nonce");
    }

    /// @dev A wallet of the renter's, with a balance.
    function _walletTerms(bytes32 orderHash) private returns (SigningWallet wallet, Terms memory t) {
        wallet = new SigningWallet(renter);
        _prepay(address(wallet), address(usdc), DEPOSIT);
        t = _terms(address(usdc), orderHash);
        t.renter = address(wallet);
    }
}
