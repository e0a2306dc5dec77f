// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Status, Terms} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";

contract TermsTest is Fixture {
    string private constant TERMS_TYPE =
        "Terms(address renter,address provider,address token,uint96 pricePerHour,uint16 feeBps,uint40 startBy,uint32 holdback,bytes32 orderHash)";

    /// @dev forge's own EIP-712 encoder, told the type in words, gives the id.
    function testFuzz_Typehash_MatchesIndependentEncoder(Terms memory t) public view {
        bytes32 structHash = vm.eip712HashStruct(TERMS_TYPE, abi.encode(t));
        bytes32 digest = keccak256(abi.encodePacked("\x19\x01", _domain(block.chainid), structHash));
        assertEq(escrow.hashTerms(t), digest, "id");
    }

    function test_Domain() public view {
        assertEq(escrow.domainSeparator(), _domain(block.chainid), "separator");
        (, string memory name, string memory version, uint256 chainId, address verifier,,) = escrow.eip712Domain();
        assertEq(name, "Weir Escrow");
        assertEq(version, "1");
        assertEq(chainId, block.chainid);
        assertEq(verifier, address(escrow));
    }

    /// @dev After a fork of the chain the other branch has other ids: nothing cached, no replay.
    function test_Sig_AfterFork() public {
        Terms memory t = _terms();
        bytes32 id = _lock(t, DEPOSIT);
        uint64 here = uint64(block.chainid);
        vm.chainId(80_002);
        assertEq(escrow.domainSeparator(), _domain(80_002), "separator");
        assertNotEq(escrow.hashTerms(t), id, "id");
        vm.chainId(here);
        assertEq(escrow.hashTerms(t), id, "back");
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

    function _domain(uint256 chainId) private view returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Weir Escrow"),
                keccak256("1"),
                chainId,
                address(escrow)
            )
        );
    }
}
