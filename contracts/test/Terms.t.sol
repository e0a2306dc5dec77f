// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {EndSignatures, Status, Terms} from "../src/IEscrow.sol";
import {Signing} from "./Signing.sol";

contract TermsTest is Signing {
    /// @dev forge's own EIP-712 encoder, told the type in words, gives the id.
    function testFuzz_Typehash_MatchesIndependentEncoder(Terms memory t) public view {
        bytes32 structHash = vm.eip712HashStruct(TERMS_TYPE, abi.encode(t));
        bytes32 digest = keccak256(abi.encodePacked("\x19\x01", _domainOf(block.chainid, address(escrow)), structHash));
        assertEq(escrow.hashTerms(t), digest, "id");
    }

    function test_Domain() public view {
        assertEq(escrow.domainSeparator(), _domainOf(block.chainid, address(escrow)), "separator");
        (, string memory name, string memory version, uint256 chainId, address verifier,,) = escrow.eip712Domain();
        assertEq(name, "Weir Escrow");
        assertEq(version, "1");
        assertEq(chainId, block.chainid);
        assertEq(verifier, address(escrow));
    }

    /// @dev Where a fork changes the chain's id, rentals are found as before and end as before; what is signed is checked
    /// in the new domain (test_Sig_AfterFork).
    function test_Id_AfterFork_Stays() public {
        Terms memory t = _terms();
        bytes32 id = _activate(t, DEPOSIT);
        vm.chainId(80_002);
        assertEq(escrow.domainSeparator(), _domainOf(80_002, address(escrow)), "separator");
        assertEq(escrow.hashTerms(t), id, "id");
        skip(1000);
        _stop(t, renter);
        _assertEnded(id);
        _assertBalances(900_000, 100_000, 1_000_000);
    }

    /// @dev Every field is part of the id.
    function test_EachFieldCounts() public view {
        Terms memory t = _terms();
        bytes32 id = escrow.hashTerms(t);
        for (uint256 i = 0; i < 8; ++i) {
            Terms memory other = _terms();
            assembly ("memory-safe") {
                let field := add(other, mul(i, 0x20))
                mstore(field, xor(mload(field), 1))
            }
            assertNotEq(escrow.hashTerms(other), id, "another id");
        }
    }

    /// @dev Terms that differ in any one field name another rental: no call made with them does anything.
    function testFuzz_OtherTerms_ReachNoRental(uint256 which, uint256 delta) public {
        Terms memory t = _terms();
        t.holdback = 600;
        bytes32 id = _activate(t, DEPOSIT);
        Terms memory waiting = _terms(address(usdc), "waiting");
        bytes32 waitingId = _lock(waiting, DEPOSIT);
        skip(900);
        Terms memory other = _change(t, which % 8, delta);
        EndSignatures memory none;
        bytes[] memory calls = new bytes[](6);
        calls[0] = abi.encodeCall(escrow.stop, (other));
        calls[1] = abi.encodeCall(escrow.contest, (other, 1));
        calls[2] = abi.encodeCall(escrow.close, (other, _now(), 0, none));
        calls[3] = abi.encodeCall(escrow.release, (other));
        calls[4] = abi.encodeCall(escrow.topUp, (other, 1));
        calls[5] = abi.encodeCall(escrow.start, (_change(waiting, which % 8, delta), T0));
        address[4] memory who = [renter, provider, operator, stranger];
        for (uint256 i = 0; i < who.length; ++i) {
            for (uint256 j = 0; j < calls.length; ++j) {
                vm.prank(who[i]);
                (bool success, bytes memory reason) = address(escrow).call(calls[j]);
                assertFalse(success, "no such rental");
                assertEq(reason.length, 4, "by name");
            }
        }
        _assertStatus(id, Status.Active);
        _assertStatus(waitingId, Status.Locked);
        _assertBalances(0, 0, 2 * DEPOSIT);
    }

    /// @dev Terms with bits set above a field's width cannot be locked, whichever the field.
    function test_DirtyTerms_CannotBeLocked() public {
        Terms memory t = _terms();
        bytes memory clean = abi.encodeCall(escrow.lock, (t, DEPOSIT));
        for (uint256 i = 0; i < 7; ++i) {
            bytes memory dirty = bytes.concat(clean);
            dirty[4 + i * 32] = 0x01;
            vm.prank(renter);
            (bool success,) = address(escrow).call(dirty);
            assertFalse(success, "dirty");
        }
        vm.prank(renter);
        (bool locked,) = address(escrow).call(clean);
        assertTrue(locked, "clean");
    }

    /// @dev And naming a live rental by dirty terms reaches no rental.
    function test_DirtyTerms_ReachNoRental() public {
        Terms memory t = _terms();
        bytes32 id = _activate(t, DEPOSIT);
        for (uint256 i = 0; i < 7; ++i) {
            bytes memory dirty = abi.encodeCall(escrow.stop, (t));
            dirty[4 + i * 32] = 0x01;
            vm.prank(renter);
            (bool success,) = address(escrow).call(dirty);
            assertFalse(success, "dirty");
        }
        _assertStatus(id, Status.Active);
    }
}
